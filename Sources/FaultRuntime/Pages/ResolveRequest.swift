/// A request that resolves faults.
enum ResolveRequest: String, Hashable, Sendable, CaseIterable {
  case copy = "UFFDIO_COPY"
  case zeropage = "UFFDIO_ZEROPAGE"
  case move = "UFFDIO_MOVE"
  case `continue` = "UFFDIO_CONTINUE"
  case poison = "UFFDIO_POISON"
  case writeProtect = "UFFDIO_WRITEPROTECT"
}

/// A resolving request that the kernel did not finish.
struct ResolveError: Error, Hashable, Sendable, CustomStringConvertible {
  var request: ResolveRequest
  var errno: KernelErrno
  /// Bytes that were resolved before it stopped.
  var completedByteCount: Int

  // Written out, because the compiler does not look for locks in an initializer of another file that it makes up itself.
  @_noLocks @_noAllocation
  @inline(__always)
  init(request: ResolveRequest, errno: KernelErrno, completedByteCount: Int) {
    self.request = request
    self.errno = errno
    self.completedByteCount = completedByteCount
  }

  var description: String { "\(request.rawValue): \(errno) after \(completedByteCount) bytes" }
}
