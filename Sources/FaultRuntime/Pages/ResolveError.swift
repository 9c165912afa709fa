/// A resolving request that the kernel did not finish.
struct ResolveError: Error, Hashable, Sendable, CustomStringConvertible {
  var request: ResolveRequest
  var errno: KernelErrno
  /// The number of bytes that were resolved before the request failed.
  var completedByteCount: Int

  // The compiler does not check for locks in a memberwise initializer that it makes in another file, so the
  // initializer is written out.
  @_noLocks @_noAllocation
  @inline(__always)
  init(request: ResolveRequest, errno: KernelErrno, completedByteCount: Int) {
    self.request = request
    self.errno = errno
    self.completedByteCount = completedByteCount
  }

  var description: String { "\(request.rawValue): \(errno) after \(completedByteCount) bytes" }
}
