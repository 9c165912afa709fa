/// A system call or library call that failed and does not concern a userfaultfd.
struct HostCallError: Error, Hashable, Sendable {
  var call: String
  var errno: KernelErrno
  /// Which limit is the cause, where that is known already.
  var shortage: MemoryShortage?
}
