internal import CUFFD
internal import Synchronization

/// One thread's share of a range that somebody wants filled: it takes a stretch after the other, and fills it a step at a
/// time. The fields belong to that thread until it signals `done`, and to the one who waits after that.
final class PrefetchJob: @unchecked Sendable {
  // Safe to share: handed over by the lock of the handler's control, and back by `done`.
  private let range: PrefetchRange
  private var offset: Int
  private var end: Int
  let done = OneShotEvent()

  init(region: Region, from start: Int, to end: Int) {
    range = PrefetchRange(region: region, from: start, to: end)
    let first = range.take() ?? start..<start
    offset = first.lowerBound
    self.end = first.upperBound
  }

  private init(_ range: PrefetchRange, _ first: Range<Int>) {
    self.range = range
    offset = first.lowerBound
    end = first.upperBound
  }

  var region: Region { range.region }

  /// The lowest page that could not be filled. Everything before it is there, once every share has ended.
  var failure: BulkFiller.Failure? { range.failure }

  /// A share for a second thread; nil where that is of no use or the provider does not allow it.
  func helper() -> PrefetchJob? {
    guard range.isShared, let first = range.take() else { return nil }
    return PrefetchJob(range, first)
  }

  /// One step; true where nothing is left to do for this thread.
  func step(_ filler: inout BulkFiller, forbidden: AddressTable?, counting counter: some FillCounter) -> Bool {
    do throws(BulkFiller.Failure) {
      guard !region.isClosing else {
        throw BulkFiller.Failure(
          cause: ResolutionError.regionClosed, page: region.address(of: offset))
      }
      if offset < end {
        offset = try filler.step(region, from: offset, to: end, forbidden: forbidden, counting: counter)
      }
    } catch {
      range.fail(error)
      filler.finish()
      return true
    }
    if offset >= end {
      guard let next = range.take() else {
        filler.finish()
        return true
      }
      offset = next.lowerBound
      end = next.upperBound
    }
    return false
  }

  /// Has `body` run this share on the calling thread, and that of a helper on another one where that pays.
  func runShared(_ body: @escaping @Sendable (PrefetchJob) -> Void) {
    let helper = helper()
    let thread = helper.flatMap { helper in
      try? FaultThread(name: "fault-prefetch", stackByteCount: 1 << 20) { body(helper) }
    }
    // Without a thread for it, its share has been taken all the same.
    if thread == nil, let helper { body(helper) }
    body(self)
    thread?.join()
  }

  /// Every step, on the calling thread.
  func run(
    _ pageSize: PageSize, retryDeadline: UInt64, forbidden: AddressTable?, counting counters: SharedCounters
  ) {
    var filler = BulkFiller(pageSize: pageSize, retryDeadline: retryDeadline)
    var isDone = false
    while !isDone {
      counters.countRequests()
      isDone = step(&filler, forbidden: forbidden, counting: counters)
    }
  }
}

/// What the shares of one prefetch have in common: which bytes nobody has taken yet, and what went wrong.
private final class PrefetchRange: Sendable {
  let region: Region
  private let end: Int
  private let stretchByteCount: Int
  private let next: Atomic<Int>
  private let lowestFailure = Monitor<BulkFiller.Failure?>(nil)

  init(region: Region, from start: Int, to end: Int) {
    self.region = region
    self.end = end
    next = Atomic(start)
    stretchByteCount = Self.stretchByteCount(region, end - start)
  }

  /// What one thread takes at a time; everything, where one thread shall do it alone.
  private static func stretchByteCount(_ region: Region, _ byteCount: Int) -> Int {
    guard region.mayBeAskedConcurrently, byteCount >= leastSharedByteCount, cuffd_allowed_cpu_count() > 1 else {
      return .max
    }
    // Whole huge pages, and so few that both threads end at nearly the same time.
    let stretch = max(leastSharedByteCount / 8, Int(cuffd_huge_page_size()))
    return byteCount >= 4 * stretch ? stretch : .max
  }

  /// Filling less takes no longer than getting a second thread to run.
  private static let leastSharedByteCount = 16 << 20

  var isShared: Bool { stretchByteCount != .max }

  var failure: BulkFiller.Failure? { lowestFailure.withLock { $0 } }

  /// The next stretch; nil where none is left.
  func take() -> Range<Int>? {
    var start = next.load(ordering: .relaxed)
    while start < end {
      var stretchEnd = end
      if isShared {
        let address = region.address(of: start)
        stretchEnd = min(end, start + stretchByteCount - Int(address % UInt(stretchByteCount)))
      }
      let (exchanged, original) = next.weakCompareExchange(expected: start, desired: stretchEnd, ordering: .relaxed)
      if exchanged { return start..<stretchEnd }
      start = original
    }
    return nil
  }

  /// Stretches that were taken are still filled, so that every page before the lowest failure is there in the end.
  func fail(_ failure: BulkFiller.Failure) {
    next.store(end, ordering: .relaxed)
    lowestFailure.withLock { lowest in
      if lowest.map({ failure.page < $0.page }) ?? true { lowest = failure }
    }
  }
}
