/// A failed call of the host that is not about a userfaultfd.
struct HostCallError: Error, Hashable, Sendable {
  var call: String
  var errno: KernelErrno
}
