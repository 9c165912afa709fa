internal import CUFFD

/// How a resolving request treats the threads that wait and the page that it makes.
struct ResolveMode: OptionSet, Hashable, Sendable {
  var rawValue: UInt8

  @_noLocks @_noAllocation
  init(rawValue: UInt8) { self.rawValue = rawValue }

  /// Threads that wait are woken, and the page can be written.
  @_noLocks @_noAllocation
  init() { rawValue = 0 }

  /// Threads that wait stay asleep; somebody calls `wake` later.
  static var doNotWake: Self { Self(rawValue: 1 << 0) }
  /// The new page is write-protected (`copy` and `continue` only).
  static var writeProtected: Self { Self(rawValue: 1 << 1) }
  /// Holes in the source stay holes (`move` only).
  static var allowSourceHoles: Self { Self(rawValue: 1 << 2) }

  /// In place of the generic one, of which the compiler cannot prove that it takes no lock.
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

  /// `UFFDIO_ZEROPAGE`: maps the shared page of zeros; a later write to it faults once more, inside the kernel.
  @_noLocks @_noAllocation
  func zeropage(_ range: AddressRange, mode: ResolveMode = ResolveMode()) throws(ResolveError) {
    var done: Int64 = 0
    let bits = mode.contains(.doNotWake) ? CUFFD_ZEROPAGE_MODE_DONTWAKE : 0
    let result = unsafe cuffd_ioctl_zeropage(descriptor, UInt64(range.start), UInt64(range.byteCount), bits, &done)
    if result < 0 { throw ResolveError(request: .zeropage, returned: result, done) }
  }

  /// `UFFDIO_MOVE` (6.8): takes the pages at `source` out of there and puts them into `range`. Anonymous memory only,
  /// both ends writable and of this process.
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
  func `continue`(_ range: AddressRange, mode: ResolveMode = ResolveMode()) throws(ResolveError) {
    var done: Int64 = 0
    let bits =
      (mode.contains(.doNotWake) ? CUFFD_CONTINUE_MODE_DONTWAKE : 0)
      | (mode.contains(.writeProtected) ? CUFFD_CONTINUE_MODE_WP : 0)
    let result = unsafe cuffd_ioctl_continue(descriptor, UInt64(range.start), UInt64(range.byteCount), bits, &done)
    if result < 0 { throw ResolveError(request: .continue, returned: result, done) }
  }

  /// `UFFDIO_POISON` (6.6): every access to these pages fails, with SIGBUS or EFAULT, until a `copy` cures them.
  func poison(_ range: AddressRange, mode: ResolveMode = ResolveMode()) throws(ResolveError) {
    guard canPoison else { throw ResolveError(request: .poison, errno: .invalidArgument, completedByteCount: 0) }
    var done: Int64 = 0
    let bits = mode.contains(.doNotWake) ? CUFFD_POISON_MODE_DONTWAKE : 0
    let result = unsafe cuffd_ioctl_poison(descriptor, UInt64(range.start), UInt64(range.byteCount), bits, &done)
    if result < 0 { throw ResolveError(request: .poison, returned: result, done) }
  }

  /// `UFFDIO_WRITEPROTECT` (5.7): protects `range`, or lifts the protection and wakes the threads that wait for it.
  func writeProtect(_ range: AddressRange, _ protect: Bool, mode: ResolveMode = ResolveMode()) throws(ResolveError) {
    let bits =
      (protect ? CUFFD_WRITEPROTECT_MODE_WP : 0)
      | (mode.contains(.doNotWake) ? CUFFD_WRITEPROTECT_MODE_DONTWAKE : 0)
    let result = cuffd_ioctl_writeprotect(descriptor, UInt64(range.start), UInt64(range.byteCount), bits)
    if result < 0 { throw ResolveError(request: .writeProtect, returned: result, 0) }
  }
}

extension Userfaultfd {
  /// Puts a page of zeros over a poisoned one, which `zeropage` takes for present. Throws `exists` where that is not what is
  /// there.
  func cure(_ page: AddressRange) throws(ResolveError) {
    guard cuffd_is_resident(UInt64(page.start)) == 0 else {
      throw ResolveError(request: .zeropage, errno: .fileExists, completedByteCount: 0)
    }
    try unsafe copy(page, from: cuffd_zeros())
  }
}

extension ResolveError {
  fileprivate init(request: ResolveRequest, returned: CInt, _ done: Int64) {
    self.init(request: request, errno: KernelErrno(rawValue: -returned), completedByteCount: Int(done))
  }
}
