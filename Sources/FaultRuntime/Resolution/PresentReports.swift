/// How often the kernel has called a page present while threads fault on it: a small table that forgets, because only
/// repetition in a short time means anything.
struct PresentReports: ~Copyable {
  private static let slotCount = 64

  private var pages = [UInt](repeating: 0, count: slotCount)
  private var counts = [Int](repeating: 0, count: slotCount)

  /// Reports counted for `page` so far.
  func count(for page: UInt, pageSize: PageSize) -> Int {
    let slot = Self.slot(of: page, pageSize)
    return pages[slot] == page ? counts[slot] : 0
  }

  mutating func add(_ page: UInt, pageSize: PageSize) {
    let slot = Self.slot(of: page, pageSize)
    counts[slot] = pages[slot] == page ? counts[slot] &+ 1 : 1
    pages[slot] = page
  }

  mutating func forget(_ page: UInt, pageSize: PageSize) {
    let slot = Self.slot(of: page, pageSize)
    if pages[slot] == page { counts[slot] = 0 }
  }

  private static func slot(of page: UInt, _ pageSize: PageSize) -> Int {
    Int(page / UInt(pageSize.bytes) % UInt(slotCount))
  }
}
