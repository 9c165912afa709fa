internal import CUFFD

/// The failures of a region: the newest of all, and the latest of each page that is not there because of it.
final class FailureLog: Sendable {
  /// What is known of a page.
  fileprivate struct Entry {
    var failure: PageFailure
    /// One line that says it all, for who has no time to make it.
    var line: [UInt8]
    /// Which of all reports this was.
    var number: Int
  }

  fileprivate struct State {
    var newest: [PageFailure] = []
    var pages: [Int: Entry] = [:]
    /// Pages in the order of their reports; those that have been reported again since, or cured, stand for nothing.
    var order: [(offset: Int, number: Int)] = []
    var reports = 0
  }

  private static let newestCapacity = 64
  /// More pages than this are forgotten, the oldest first: a program that goes on touching a broken source must not run out
  /// of memory.
  fileprivate static let pageCapacity = 16384

  private let state = Monitor(State())

  var all: [PageFailure] { state.withLock { $0.newest } }

  func record(_ failure: PageFailure) {
    let line = Array("FaultRuntime: \(failure)\n".utf8)
    state.withLock { state in
      if state.newest.count == Self.newestCapacity { state.newest.removeFirst() }
      state.newest.append(failure)
      state.reports += 1
      state.pages[failure.offset] = Entry(failure: failure, line: line, number: state.reports)
      state.order.append((failure.offset, state.reports))
      if state.pages.count > Self.pageCapacity || state.order.count > 2 * Self.pageCapacity { state.makeRoom() }
    }
  }

  /// Why the page at `offset` could not be produced the last time.
  func failure(at offset: Int) -> PageFailure? { state.withLock { $0.pages[offset]?.failure } }

  /// The offsets of failed pages in a range, in order.
  func offsets(in range: Range<Int>) -> [Int] {
    state.withLock { $0.pages.keys.filter { range.contains($0) } }.sorted()
  }

  /// The page is there now.
  func forget(_ offset: Int) { state.withLock { _ = $0.pages.removeValue(forKey: offset) } }

  /// Writes the line about the page at `offset` to standard error. False where there is none. Allocates nothing.
  func explain(_ offset: Int) -> Bool {
    state.withLock { state in
      guard let entry = state.pages[offset] else { return false }
      return unsafe entry.line.withUnsafeBytes { unsafe cuffd_write_error($0.baseAddress!, $0.count) } == 0
    }
  }
}

extension FailureLog.State {
  /// Leaves three quarters, so that this is seldom.
  fileprivate mutating func makeRoom() {
    order.removeAll { entry in pages[entry.offset]?.number != entry.number }
    let surplus = max(0, pages.count - FailureLog.pageCapacity * 3 / 4)
    for entry in order.prefix(surplus) { pages[entry.offset] = nil }
    order.removeFirst(min(surplus, order.count))
  }
}
