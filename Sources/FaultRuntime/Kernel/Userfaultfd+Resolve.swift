internal import CUFFD

/// How a resolving request treats the waiting threads and the new page.
struct ResolveMode: OptionSet, Hashable, Sendable {
  var rawValue: UInt8

  @_noLocks @_noAllocation
  init(rawValue: UInt8) { self.rawValue = rawValue }

  /// The request wakes the waiting threads, and the page is writable.
  @_noLocks @_noAllocation
  init() { rawValue = 0 }

  /// The waiting threads stay asleep until a caller wakes them with `wake`.
  static var doNotWake: Self { Self(rawValue: 1 << 0) }
  /// The new page is write-protected (`copy` and `continue` only).
  static var writeProtected: Self { Self(rawValue: 1 << 1) }
  /// Holes in the source stay holes (`move` only).
  static var allowSourceHoles: Self { Self(rawValue: 1 << 2) }

  /// This replaces the generic function, which the compiler cannot prove to take no lock.
  @_noLocks @_noAllocation
  func contains(_ other: Self) -> Bool { rawValue & other.rawValue == other.rawValue }
}

extension Userfaultfd {
  /// `UFFDIO_COPY`: fills missing pages with the bytes at `source`, which needs no alignment.
  @_noLocks @_noAllocation
  @inline(__always)
  func copy(_ range: AddressRange, from source: UnsafeRawPointer, mode: ResolveMode = ResolveMode())
    throws(ResolveError)
  {
    var done: Int64 = 0
    let bits =
      (mode.contains(.doNotWake) ? CUFFD_COPY_MODE_DONTWAKE : 0)
      | (mode.contains(.writeProtected) ? CUFFD_COPY_MODE_WP : 0)
    let result = unsafe cuffd_ioctl_copy(descriptor, UInt64(range.start), source, UInt64(range.byteCount), bits, &done)
    if result < 0 { throw ResolveError(request: .copy, returned: result, done) }
  }

  /// `UFFDIO_ZEROPAGE`: maps the shared zero page. A later write faults once more, and the kernel resolves that fault.
  @_noLocks @_noAllocation
  func zeropage(_ range: AddressRange, mode: ResolveMode = ResolveMode()) throws(ResolveError) {
    var done: Int64 = 0
    let bits = mode.contains(.doNotWake) ? CUFFD_ZEROPAGE_MODE_DONTWAKE : 0
    let result = unsafe cuffd_ioctl_zeropage(descriptor, UInt64(range.start), UInt64(range.byteCount), bits, &done)
    if result < 0 { throw ResolveError(request: .zeropage, returned: result, done) }
  }

  /// `UFFDIO_MOVE` (6.8): takes the pages away from `source` and puts them into `range`. Both have to be writable
  /// anonymous memory of this process.
  func move(_ range: AddressRange, from source: UInt, mode: ResolveMode = ResolveMode()) throws(ResolveError) {
    var done: Int64 = 0
    let bits =
      (mode.contains(.doNotWake) ? CUFFD_MOVE_MODE_DONTWAKE : 0)
      | (mode.contains(.allowSourceHoles) ? CUFFD_MOVE_MODE_ALLOW_SRC_HOLES : 0)
    let result = unsafe cuffd_ioctl_move(
      descriptor, UInt64(range.start), UInt64(source), UInt64(range.byteCount), bits, &done)
    if result < 0 { throw ResolveError(request: .move, returned: result, done) }
  }

  /// `UFFDIO_CONTINUE` (5.13): maps pages that the page cache of a shared mapping already holds.
  @_noLocks @_noAllocation
  func `continue`(_ range: AddressRange, mode: ResolveMode = ResolveMode()) throws(ResolveError) {
    var done: Int64 = 0
    let bits =
      (mode.contains(.doNotWake) ? CUFFD_CONTINUE_MODE_DONTWAKE : 0)
      | (mode.contains(.writeProtected) ? CUFFD_CONTINUE_MODE_WP : 0)
    let result = unsafe cuffd_ioctl_continue(descriptor, UInt64(range.start), UInt64(range.byteCount), bits, &done)
    if result < 0 { throw ResolveError(request: .continue, returned: result, done) }
  }

  /// `UFFDIO_POISON` (6.6): every access to these pages fails, with SIGBUS or EFAULT, until a `copy` replaces the
  /// poison. Throws `EINVAL` if the kernel does not offer the request.
  func poison(_ range: AddressRange, mode: ResolveMode = ResolveMode()) throws(ResolveError) {
    guard canPoison else { throw ResolveError(request: .poison, errno: .invalidArgument, completedByteCount: 0) }
    var done: Int64 = 0
    let bits = mode.contains(.doNotWake) ? CUFFD_POISON_MODE_DONTWAKE : 0
    let result = unsafe cuffd_ioctl_poison(descriptor, UInt64(range.start), UInt64(range.byteCount), bits, &done)
    if result < 0 { throw ResolveError(request: .poison, returned: result, done) }
  }

  /// `UFFDIO_WRITEPROTECT` (5.7): protects `range`, or removes the protection and wakes the threads that wait for it.
  func writeProtect(_ range: AddressRange, _ protect: Bool, mode: ResolveMode = ResolveMode()) throws(ResolveError) {
    let bits =
      (protect ? CUFFD_WRITEPROTECT_MODE_WP : 0)
      | (mode.contains(.doNotWake) ? CUFFD_WRITEPROTECT_MODE_DONTWAKE : 0)
    let result = cuffd_ioctl_writeprotect(descriptor, UInt64(range.start), UInt64(range.byteCount), bits)
    if result < 0 { throw ResolveError(request: .writeProtect, returned: result, 0) }
  }
}

extension ResolveError {
  fileprivate init(request: ResolveRequest, returned: CInt, _ done: Int64) {
    self.init(request: request, errno: KernelErrno(rawValue: -returned), completedByteCount: Int(done))
  }
}
