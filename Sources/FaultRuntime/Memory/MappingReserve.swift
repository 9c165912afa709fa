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
  /// Whether a thread is changing a seam. Only that thread changes `standing`.
  private let isChanging = Atomic<Bool>(false)

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
    guard beginChanging() else { return false }
    defer { isChanging.store(false, ordering: .releasing) }
    let standing = standing.load(ordering: .relaxed)
    guard standing != 0 else { return false }
    let number = standing.trailingZeroBitCount
    guard cuffd_reserve_release(UInt64(start), pageSize.bytes, UInt32(number)) == 0 else { return false }
    self.standing.store(standing & ~(1 << UInt64(number)), ordering: .relaxed)
    return true
  }

  /// Waits for a thread that changes a seam, which is short: that thread changes the protection of one page, and
  /// signals are blocked on it. The wait has an end, because a forked child may have inherited the flag of such a
  /// thread.
  @_noLocks @_noAllocation
  private func beginChanging() -> Bool {
    for _ in 0..<100_000 {
      if !isChanging.exchange(true, ordering: .acquiring) { return true }
      cuffd_pause(0)
    }
    return false
  }

  /// Restores one seam if one was given up and the kernel has two mappings for it. Safe in a signal handler.
  @_noLocks @_noAllocation
  func restore() {
    guard standing.load(ordering: .relaxed) != .max, !isChanging.exchange(true, ordering: .acquiring) else { return }
    defer { isChanging.store(false, ordering: .releasing) }
    let standing = standing.load(ordering: .relaxed)
    guard standing != .max else { return }
    let number = (~standing).trailingZeroBitCount
    if cuffd_reserve_restore(UInt64(start), pageSize.bytes, UInt32(number)) == 0 {
      self.standing.store(standing | 1 << UInt64(number), ordering: .relaxed)
    }
  }
}
