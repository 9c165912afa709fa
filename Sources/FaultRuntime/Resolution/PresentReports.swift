/// Counts how often the kernel has called a page present while threads fault on it. Such a report means something
/// only if it is repeated within a short time, so the count of a page starts again after a quiet second. A healthy
/// fault never gets here, so a search through a small array is fast enough.
struct PresentReports: ~Copyable {
  private struct Entry {
    var page: UInt = 0
    var count = 0
    var latest: UInt64 = 0
  }

  private static let memory: UInt64 = 1_000_000_000
  private var entries = [Entry](repeating: Entry(), count: 64)

  /// Reports of `page` so far, at the monotonic time `now` in nanoseconds.
  func count(for page: UInt, now: UInt64) -> Int {
    guard let index = entries.firstIndex(where: { $0.page == page }), isFresh(entries[index], now) else { return 0 }
    return entries[index].count
  }

  mutating func add(_ page: UInt, now: UInt64) {
    let earlier = count(for: page, now: now)
    // The entry that was quiet for the longest time is replaced.
    let index =
      entries.firstIndex { $0.page == page }
      ?? entries.indices.min { entries[$0].latest < entries[$1].latest }!
    entries[index] = Entry(page: page, count: earlier + 1, latest: now)
  }

  mutating func forget(_ page: UInt) {
    if let index = entries.firstIndex(where: { $0.page == page }) { entries[index] = Entry() }
  }

  private func isFresh(_ entry: Entry, _ now: UInt64) -> Bool { now - entry.latest < Self.memory }
}
