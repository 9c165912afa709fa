internal import CUFFD
internal import Synchronization

/// Mappings that the process keeps, so that they can be given up when a page has to be opened and there are none left: other code
/// may have used up the kernel's limit (`vm.max_map_count`).
///
/// They are kept two at a time, which is what a page in the middle of others takes, and what two runs of pages give back when
/// they become one.
final class MappingReserve: Sendable {
  static let seamCount = 64

  private let start: UInt
  private let pageSize: PageSize
  /// A set bit is a seam that stands.
  private let standing = Atomic<UInt64>(.max)
  private let isRestoring = Atomic<Bool>(false)

  /// nil where there are not so many.
  init?(pageSize: PageSize) {
    var mapped: UnsafeMutableRawPointer?
    guard unsafe cuffd_reserve_map(pageSize.bytes, UInt32(Self.seamCount), &mapped) == 0 else { return nil }
    start = UInt(bitPattern: mapped)
    self.pageSize = pageSize
  }

  deinit { _ = cuffd_unmap(UInt64(start), range.byteCount) }

  /// Where they are.
  var range: AddressRange {
    AddressRange(start: start, byteCount: cuffd_reserve_pages(UInt32(Self.seamCount)) * pageSize.bytes)
  }

  /// How many times two mappings can be given up.
  var count: Int { standing.load(ordering: .relaxed).nonzeroBitCount }

  /// Gives two mappings up. Another thread may be faster to use them. False where none are left. In a signal handler.
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

  /// Takes two back, where some were given up and the kernel has as many. In a signal handler.
  @_noLocks @_noAllocation
  func restore() {
    guard standing.load(ordering: .relaxed) != .max, !isRestoring.exchange(true, ordering: .acquiring) else { return }
    // Only here a seam begins to stand.
    let number = (~standing.load(ordering: .relaxed)).trailingZeroBitCount
    if cuffd_reserve_restore(UInt64(start), pageSize.bytes, UInt32(number)) == 0 {
      standing.bitwiseOr(1 << UInt64(number), ordering: .relaxed)
    }
    isRestoring.store(false, ordering: .releasing)
  }
}
