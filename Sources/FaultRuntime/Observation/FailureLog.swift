/// The failures of a region: for each page that has failed, the latest failure, and the first one since the page was
/// last resident.
final class FailureLog: Sendable {
  /// What is known of a page.
  fileprivate struct Entry {
    var failure: PageFailure
    /// The first failure since the page was last resident; nil where that is the latest one. A provider may fail
    /// because its own access to the page failed. The first failure is then the cause of the later ones.
    var first: PageFailure?
    /// The number of this report among all reports of the region.
    var number: Int
    /// Whether the page has come since the failure.
    var isCured = false
  }

  fileprivate struct State {
    var pages: [Int: Entry] = [:]
    /// The pages in the order of their reports. An entry is void where its page has been reported again since.
    var order: [(offset: Int, number: Int)] = []
    var reports = 0
  }

  /// The largest number of pages that are remembered. Beyond it the oldest ones are forgotten, because a program that
  /// goes on touching a broken source must not run out of memory.
  static let pageCapacity = 16384

  private let state = Monitor(State())

  /// Makes and drops a log with a failure. Swift's runtime makes the types of the collections at their first use, which
  /// takes much of the stack, and a thread that records a failure in a signal handler may have little.
  static func rehearse() { _ = rehearsal }

  private static let rehearsal: Void = {
    let log = FailureLog()
    log.record(
      PageFailure(region: "", offset: 0, byteCount: 0, provider: "", cause: ResolutionError.regionClosed))
    _ = log.failure(at: 0)
  }()

  /// The first and the latest failure of each page, in the order of the latest ones, whether or not the page has come
  /// since. Takes O(remembered pages) time.
  var all: [PageFailure] {
    state.withLock { state in
      state.order.flatMap { place -> [PageFailure] in
        guard let entry = state.pages[place.offset], entry.number == place.number else { return [] }
        return (entry.first.map { [$0] } ?? []) + [entry.failure]
      }
    }
  }

  /// Keeps a failure. Its text is not made here, because the thread may be in a signal handler.
  func record(_ failure: PageFailure) {
    state.withLock { state in
      state.reports += 1
      let known = state.pages[failure.offset]
      let first = known.flatMap { $0.isCured ? nil : $0.first ?? $0.failure }
      state.pages[failure.offset] = Entry(failure: failure, first: first, number: state.reports)
      state.order.append((failure.offset, state.reports))
      if state.pages.count > Self.pageCapacity || state.order.count > 2 * Self.pageCapacity { state.makeRoom() }
    }
  }

  /// Returns why the page at `offset` could not be produced the last time; nil where the page has come since.
  func failure(at offset: Int) -> PageFailure? { state.withLock { $0.failed(offset)?.failure } }

  /// Calls `body` with the offsets of the failed pages in a range, in ascending order, without the pages that have come
  /// since. Signals are held while the offsets are listed, and come again while `body` runs.
  func forEachOffset<Failure: Error>(
    in range: Range<Int>, _ body: (Int) throws(Failure) -> Void
  ) throws(Failure) {
    try holdingSignals { signals throws(Failure) in
      let offsets = state.withLock { state in
        state.pages.filter { range.contains($0.key) && !$0.value.isCured }.map(\.key)
      }
      for offset in offsets.sorted() {
        try signals.pause { () throws(Failure) in try body(offset) }
      }
    }
  }

  /// Notes that a page is resident now.
  func noteCured(_ offset: Int) { state.withLock { $0.pages[offset]?.isCured = true } }
}

extension FailureLog.State {
  fileprivate func failed(_ offset: Int) -> FailureLog.Entry? {
    guard let entry = pages[offset], !entry.isCured else { return nil }
    return entry
  }

  /// Forgets void entries. Where too many pages are remembered, it also forgets the oldest ones until three quarters of
  /// the capacity are left, so that this is rarely needed.
  fileprivate mutating func makeRoom() {
    order.removeAll { entry in pages[entry.offset]?.number != entry.number }
    guard pages.count > FailureLog.pageCapacity else { return }
    let surplus = pages.count - FailureLog.pageCapacity * 3 / 4
    for entry in order.prefix(surplus) { pages[entry.offset] = nil }
    order.removeFirst(min(surplus, order.count))
  }
}
