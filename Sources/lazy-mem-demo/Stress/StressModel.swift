import CStressSupport
import FaultRuntime
import Synchronization

/// What is known of a page at a moment.
struct StressPageState: Equatable {
  var word: UInt64
  var mask: UInt64

  /// Whether somebody writes to the page or discards it.
  var isBusy: Bool { word & StressModel.busy != 0 }
  /// Whether somebody has seen its bytes, and nobody has discarded them since.
  var isThere: Bool { word & StressModel.there != 0 }
  /// Which change was the last one.
  var version: UInt64 { word >> 2 }
}

/// What each byte of a region has to be, and which of its pages may fail.
///
/// A byte is always that of the source or the one that is written to this place, so that both are known whatever happens; which
/// of the two is known exactly where nobody was changing the page meanwhile.
final class StressModel: Sendable {
  static let there: UInt64 = 1
  static let busy: UInt64 = 2

  /// Knowledge of failures: the provider has done this to the page, and the runtime has reported it.
  static let threwError: UInt64 = 1
  static let answeredBadly: UInt64 = 2
  static let wasReported: UInt64 = 4

  let plan: StressPlan
  let pageSize: Int
  let pageCount: Int
  /// What may be done to the region: discarding and copying in exclude whoever needs pages to stay or to keep their bytes.
  let gate = StressGate()
  /// Whether its closing has begun: from now on a touch may be a signal.
  let isClosing = Atomic<Bool>(false)
  /// Whether its closing has ended: from now on every touch is SIGSEGV.
  let isClosed = Atomic<Bool>(false)

  private let states: StressWords
  /// Which of a page's 64 parts were written.
  private let masks: StressWords
  private let marks: StressWords
  /// How often the trouble of a page is still to come.
  private let troubles: StressWords
  /// Which trouble that is: looked up rather than planned anew, because providers that run in a signal handler allocate nothing.
  private let kinds: StressWords
  private let sourceSeed: UInt64
  let writtenSeed: UInt64

  init(_ plan: StressPlan, pageSize: Int) {
    self.plan = plan
    self.pageSize = pageSize
    pageCount = (plan.byteCount + pageSize - 1) / pageSize
    states = StressWords(count: pageCount)
    masks = StressWords(count: pageCount)
    marks = StressWords(count: pageCount)
    troubles = StressWords(count: pageCount)
    kinds = StressWords(count: pageCount)
    var random = StressRandom(plan.seed, 3)
    sourceSeed = random.next() | 1
    writtenSeed = random.next() | 1
    for page in 0..<pageCount {
      kinds.store(UInt64(plan.trouble(ofPage: page).kind.rawValue), page)
      arm(page)
    }
  }

  // MARK: Bytes

  func sourceSeed(ofPage page: Int) -> UInt64 { plan.isZero(page: page) ? 0 : sourceSeed }

  /// Puts the source's bytes into memory that starts at `offset` of the region, a multiple of the page size.
  func makeSource(_ offset: Int, into bytes: UnsafeMutableRawBufferPointer) {
    var done = 0
    while done < bytes.count {
      let count = min(pageSize, bytes.count - done)
      let part = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[done..<(done + count)])
      let seed = sourceSeed(ofPage: (offset + done) / pageSize)
      if seed == 0 {
        unsafe part.initializeMemory(as: UInt8.self, repeating: 0)
      } else {
        unsafe cstress_make(
          seed, UInt64(offset + done), part.baseAddress!.assumingMemoryBound(to: UInt8.self), count)
      }
      done += count
    }
  }

  func state(ofPage page: Int) -> StressPageState {
    let word = states.load(page)
    return StressPageState(word: word, mask: masks.load(page))
  }

  /// The state of each page that holds a part of a range.
  func states(of range: Range<Int>) -> [StressPageState] { pages(of: range).map { state(ofPage: $0) } }

  func pages(of range: Range<Int>) -> Range<Int> {
    range.isEmpty ? 0..<0 : (range.lowerBound / pageSize)..<((range.upperBound + pageSize - 1) / pageSize)
  }

  /// Whether nobody has changed the page since `before`, so that what is known of it held all the time.
  func isUnchanged(_ page: Int, since before: StressPageState) -> Bool {
    let now = StressPageState(word: states.loadLast(page), mask: 0)
    return !before.isBusy && !now.isBusy && now.version == before.version
  }

  /// The first byte that is not what it has to be, as an offset of the region. `before` is what was known before the bytes
  /// were read, for each page, and `isResident` whether they were read from the pages themselves.
  func firstMismatch(_ bytes: [UInt8], at offset: Int, before: [StressPageState], isResident: Bool) -> Int? {
    var done = 0
    let first = offset / pageSize
    while done < bytes.count {
      let page = (offset + done) / pageSize
      let count = min(bytes.count - done, (page + 1) * pageSize - offset - done)
      let known = before[page - first]
      var expected = cstress_page(
        source: sourceSeed(ofPage: page), written: writtenSeed, mask: known.mask, page_size: UInt64(pageSize),
        end: UInt64(plan.byteCount), is_racing: !isUnchanged(page, since: known))
      let place = unsafe bytes.withUnsafeBufferPointer {
        unsafe cstress_compare($0.baseAddress! + done, UInt64(offset + done), count, &expected)
      }
      if place >= 0 { return offset + done + place }
      if isResident { noteThere(page, known) }
      done += count
    }
    return nil
  }

  /// Its bytes have been seen: unless somebody discards it, it cannot fail any more.
  private func noteThere(_ page: Int, _ known: StressPageState) {
    guard !known.isBusy else { return }
    _ = states.exchange(page, from: known.word, to: known.word | Self.there)
  }

  // MARK: Changes

  /// Waits until nobody else changes the page. Pages are taken in ascending order.
  func take(_ page: Int) {
    while true {
      let word = states.load(page)
      if word & Self.busy == 0, states.exchange(page, from: word, to: word | Self.busy) { return }
      stressPause()
    }
  }

  /// The parts of `mask` were written, or nothing was.
  func release(_ page: Int, wrote mask: UInt64) {
    masks.insert(mask, page)
    let word = states.load(page) & ~Self.busy
    states.store((word &+ 4) | (mask == 0 ? 0 : Self.there), page)
  }

  /// The page was discarded.
  func releaseDiscarded(_ page: Int) {
    masks.store(0, page)
    let word = states.load(page) & ~(Self.busy | Self.there)
    states.store(word &+ 4, page)
  }

  // MARK: Failures

  /// Sets the page's trouble back to what was planned.
  func arm(_ page: Int) { troubles.store(plan.trouble(ofPage: page).count, page) }

  /// The trouble that a request for this page meets now.
  func takeTrouble(_ page: Int) -> StressTrouble {
    guard troubles.load(page) != 0 else { return .none }
    let kind = kind(ofPage: page)
    return kind == .throwsForEver || troubles.takeOne(page) ? kind : .none
  }

  /// Whether the provider has never said what is in the page, and never will.
  func isNeverGiven(_ page: Int) -> Bool { kind(ofPage: page) == .throwsForEver }

  private func kind(ofPage page: Int) -> StressTrouble {
    StressTrouble(rawValue: UInt8(truncatingIfNeeded: kinds.load(page))) ?? .none
  }

  func mark(_ bits: UInt64, _ page: Int) { marks.insert(bits, page) }
  func hasMark(_ bits: UInt64, _ page: Int) -> Bool { marks.load(page) & bits == bits }
}
