internal import CUFFD
internal import Synchronization

/// Spare mappings of the process. Other code may have used up the kernel's limit (`vm.max_map_count`) when a page has
/// to be opened; the runtime then gives up some of the spare mappings.
///
/// The reserve consists of seams. A seam is a page with other access rights than the pages around it, so it costs two
/// mappings. Opening a page in the middle of missing pages costs two mappings as well, and two are free again when
/// two runs of open pages become one.
final class MappingReserve: Sendable {
  static let seamCount = 64

  private let start: UInt
  private let pageSize: PageSize
  /// A set bit means that the seam with this number exists.
  private let standing = Atomic<UInt64>(.max)
  private let isRestoring = Atomic<Bool>(false)

  /// Returns nil if the process cannot get as many mappings.
  init?(pageSize: PageSize) {
    var mapped: UnsafeMutableRawPointer?
    guard unsafe cuffd_reserve_map(pageSize.bytes, UInt32(Self.seamCount), &mapped) == 0 else { return nil }
    start = UInt(bitPattern: mapped)
    self.pageSize = pageSize
  }

  deinit { _ = cuffd_unmap(UInt64(start), range.byteCount) }

  /// The addresses of the reserve.
  var range: AddressRange {
    AddressRange(start: start, byteCount: cuffd_reserve_pages(UInt32(Self.seamCount)) * pageSize.bytes)
  }

  /// The number of seams that exist. Each of them can be given up for two mappings.
  var count: Int { standing.load(ordering: .relaxed).nonzeroBitCount }

  /// Gives up one seam, so that two mappings are free, which another thread may be faster to use. Returns false if no
  /// seam is left, or if the kernel refuses. Safe in a signal handler.
  @_noLocks @_noAllocation
  func release() -> Bool {
    while true {
      let seen = standing.load(ordering: .relaxed)
      guard seen != 0 else { return false }
      let number = seen.trailingZeroBitCount
      let (exchanged, _) = standing.weakCompareExchange(
        expected: seen, desired: seen & ~(1 << UInt64(number)), ordering: .relaxed)
      if exchanged { return cuffd_reserve_release(UInt64(start), pageSize.bytes, UInt32(number)) == 0 }
    }
  }

  /// Restores one seam if one was given up and the kernel has two mappings for it. Safe in a signal handler.
  @_noLocks @_noAllocation
  func restore() {
    guard standing.load(ordering: .relaxed) != .max, !isRestoring.exchange(true, ordering: .acquiring) else { return }
    // No other code sets bits, and only one thread at a time gets here, so this bit stays clear until it is set below.
    let number = (~standing.load(ordering: .relaxed)).trailingZeroBitCount
    if cuffd_reserve_restore(UInt64(start), pageSize.bytes, UInt32(number)) == 0 {
      standing.bitwiseOr(1 << UInt64(number), ordering: .relaxed)
    }
    isRestoring.store(false, ordering: .releasing)
  }
}
