import CStressSupport
import FaultRuntime
import Synchronization

/// What is known of a page at one moment.
struct StressPageState: Equatable {
  var word: UInt64
  var mask: UInt64

  /// Whether a thread is writing to the page or discarding it.
  var isBusy: Bool { word & StressModel.busy != 0 }
  /// Whether a thread has seen the bytes of the page, and no thread has discarded the page since.
  var isThere: Bool { word & StressModel.there != 0 }
  /// The number of changes to the page so far.
  var version: UInt64 { word >> 2 }
}

/// Knows which values each byte of a region may have, and which of its pages may fail.
///
/// Each byte is either the byte of the source or the byte that writers write to that place, so both candidates are
/// always known. Which of the two is right is known whenever no thread changed the page during the read.
final class StressModel: Sendable {
  static let there: UInt64 = 1
  static let busy: UInt64 = 2

  /// Marks of a page: what the provider has done to it, and that the runtime has reported its failure.
  static let threwError: UInt64 = 1
  static let answeredBadly: UInt64 = 2
  static let wasReported: UInt64 = 4

  let plan: StressPlan
  let pageSize: Int
  let pageCount: Int
  /// Guards the region: discarding and copying in exclude threads that need pages to stay or to keep their bytes.
  let gate = StressGate()
  /// Whether closing the region has begun. From now on a touch may raise a signal.
  let isClosing = Atomic<Bool>(false)
  /// Whether closing the region has ended. From now on every touch raises SIGSEGV.
  let isClosed = Atomic<Bool>(false)

  private let states: StressWords
  /// For each page, the parts (of 64) that were written.
  private let masks: StressWords
  private let marks: StressWords
  /// For each page, how often its trouble is still to come.
  private let troubles: StressWords
  /// For each page, its kind of trouble. It is stored instead of computed from the plan, because providers that run
  /// in a signal handler must not allocate.
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

  /// Writes the bytes of the source to memory that starts at `offset` of the region, a multiple of the page size.
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

  /// Returns the state of each page that holds a part of `range`.
  func states(of range: Range<Int>) -> [StressPageState] { pages(of: range).map { state(ofPage: $0) } }

  func pages(of range: Range<Int>) -> Range<Int> {
    range.isEmpty ? 0..<0 : (range.lowerBound / pageSize)..<((range.upperBound + pageSize - 1) / pageSize)
  }

  /// Returns whether no thread has changed the page since `before`, so that `before` was valid all the time.
  func isUnchanged(_ page: Int, since before: StressPageState) -> Bool {
    let now = StressPageState(word: states.loadLast(page), mask: 0)
    return !before.isBusy && !now.isBusy && now.version == before.version
  }

  /// Returns the offset in the region of the first byte that is wrong, or nil. `before` is the state of each page
  /// before the bytes were read. `isResident` says whether the bytes were read from the pages themselves.
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

  /// Records that the bytes of the page have been seen. Unless a thread discards the page, it cannot fail any more.
  private func noteThere(_ page: Int, _ known: StressPageState) {
    guard !known.isBusy else { return }
    _ = states.exchange(page, from: known.word, to: known.word | Self.there)
  }

  // MARK: Changes

  /// Waits until no other thread changes the page, and marks it as busy. A thread takes several pages in ascending
  /// order.
  func take(_ page: Int) {
    while true {
      let word = states.load(page)
      if word & Self.busy == 0, states.exchange(page, from: word, to: word | Self.busy) { return }
      stressPause()
    }
  }

  /// Ends a change that wrote the parts of `mask`. An empty mask says that nothing was written.
  func release(_ page: Int, wrote mask: UInt64) {
    masks.insert(mask, page)
    let word = states.load(page) & ~Self.busy
    states.store((word &+ 4) | (mask == 0 ? 0 : Self.there), page)
  }

  /// Ends a change that discarded the page.
  func releaseDiscarded(_ page: Int) {
    masks.store(0, page)
    let word = states.load(page) & ~(Self.busy | Self.there)
    states.store(word &+ 4, page)
  }

  // MARK: Failures

  /// Restores the trouble that was planned for the page.
  func arm(_ page: Int) { troubles.store(plan.trouble(ofPage: page).count, page) }

  /// Returns the trouble that a request for this page meets now, and counts it as used.
  func takeTrouble(_ page: Int) -> StressTrouble {
    guard troubles.load(page) != 0 else { return .none }
    let kind = kind(ofPage: page)
    return kind == .throwsForEver || troubles.takeOne(page) ? kind : .none
  }

  /// Returns whether the provider always refuses the page.
  func isNeverGiven(_ page: Int) -> Bool { kind(ofPage: page) == .throwsForEver }

  private func kind(ofPage page: Int) -> StressTrouble {
    StressTrouble(rawValue: UInt8(truncatingIfNeeded: kinds.load(page))) ?? .none
  }

  func mark(_ bits: UInt64, _ page: Int) { marks.insert(bits, page) }
  func hasMark(_ bits: UInt64, _ page: Int) -> Bool { marks.load(page) & bits == bits }
}
