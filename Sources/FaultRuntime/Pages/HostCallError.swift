/// A system call or library call that failed and does not concern a userfaultfd.
struct HostCallError: Error, Hashable, Sendable {
  var call: String
  var errno: KernelErrno
}
