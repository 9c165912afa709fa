internal import CUFFD

/// The failures of a region: the latest one of each page that has failed, and the first one since the page was there last.
final class FailureLog: Sendable {
  /// What is known of a page.
  fileprivate struct Entry {
    var failure: PageFailure
    /// The first failure since the page was there last, where that is another one. Where a provider fails because its own access
    /// to the page did, the first failure is the cause of those behind it.
    var first: PageFailure?
    /// One line that says it all, for who has no time to make it.
    var line: [UInt8]
    /// Which of all reports this was.
    var number: Int
    /// Whether the page has come since.
    var isCured = false
  }

  fileprivate struct State {
    var pages: [Int: Entry] = [:]
    /// Pages in the order of their reports; one that has been reported again since stands for nothing here.
    var order: [(offset: Int, number: Int)] = []
    var reports = 0
  }

  /// Of more pages than this the oldest are forgotten: a program that goes on touching a broken source must not run out
  /// of memory.
  static let pageCapacity = 16384

  private let state = Monitor(State())

  /// The first and the latest failure of each page, in the order of the latest ones, whether or not the page has come since.
  var all: [PageFailure] {
    state.withLock { state in
      state.order.flatMap { place -> [PageFailure] in
        guard let entry = state.pages[place.offset], entry.number == place.number else { return [] }
        return (entry.first.map { [$0] } ?? []) + [entry.failure]
      }
    }
  }

  func record(_ failure: PageFailure) {
    let line = Array("FaultRuntime: \(failure)\n".utf8)
    state.withLock { state in
      state.reports += 1
      let known = state.pages[failure.offset]
      let first = known.flatMap { $0.isCured ? nil : $0.first ?? $0.failure }
      state.pages[failure.offset] = Entry(failure: failure, first: first, line: line, number: state.reports)
      state.order.append((failure.offset, state.reports))
      if state.pages.count > Self.pageCapacity || state.order.count > 2 * Self.pageCapacity { state.makeRoom() }
    }
  }

  /// Why the page at `offset` could not be produced the last time; nil where it has come since.
  func failure(at offset: Int) -> PageFailure? { state.withLock { $0.failed(offset)?.failure } }

  /// The offsets of failed pages in a range, in order, without those that have come since.
  func offsets(in range: Range<Int>) -> [Int] {
    state.withLock { state in state.pages.filter { range.contains($0.key) && !$0.value.isCured }.map(\.key) }.sorted()
  }

  /// The page is there now.
  func noteCured(_ offset: Int) { state.withLock { $0.pages[offset]?.isCured = true } }

  /// Writes the line about the page at `offset` to standard error. False where there is none. Allocates nothing.
  func explain(_ offset: Int) -> Bool {
    state.withLock { state in
      guard let entry = state.failed(offset) else { return false }
      return unsafe entry.line.withUnsafeBytes { unsafe cuffd_write_error($0.baseAddress!, $0.count) } == 0
    }
  }
}

extension FailureLog.State {
  fileprivate func failed(_ offset: Int) -> FailureLog.Entry? {
    guard let entry = pages[offset], !entry.isCured else { return nil }
    return entry
  }

  /// Leaves three quarters, so that this is seldom.
  fileprivate mutating func makeRoom() {
    order.removeAll { entry in pages[entry.offset]?.number != entry.number }
    let surplus = max(0, pages.count - FailureLog.pageCapacity * 3 / 4)
    for entry in order.prefix(surplus) { pages[entry.offset] = nil }
    order.removeFirst(min(surplus, order.count))
  }
}
