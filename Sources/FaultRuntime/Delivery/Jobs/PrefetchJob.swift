internal import CUFFD
internal import Synchronization

/// One thread's share of a range that is to be filled. The thread takes one stretch after another, and fills each in
/// steps. The fields belong to that thread until it signals `done`, and to the thread that waits after that.
final class PrefetchJob: @unchecked Sendable {
  // Safe to share: the lock of the handler's control hands the job over, and `done` hands it back.
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

  /// The lowest page that could not be filled. All pages in front of it are there when every share has ended.
  var failure: BulkFiller.Failure? { range.failure }

  /// Returns a share for a second thread; nil where a second thread would be of no use, or where the provider permits
  /// only one.
  func helper() -> PrefetchJob? {
    guard range.isShared, let first = range.take() else { return nil }
    return PrefetchJob(range, first)
  }

  /// Makes one step. Returns whether nothing is left to do for this thread.
  func step(_ filler: inout BulkFiller, forbidden: RegionGroup?, counting counter: some FillCounter) -> Bool {
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

  /// Has this share filled on the calling thread and, where that is faster, a helper's share on a second thread. Waits
  /// until both have ended.
  func runShared(by filler: some PrefetchFiller) {
    withObjectMadeUnderHeldSignals({ PrefetchHelp(of: self, by: filler) }) { help in
      // The helper's share has been taken, so the calling thread fills it if no second thread can be started.
      if help.thread == nil, let job = help.job { filler.fill(job) }
      filler.fill(self)
      help.thread?.join()
    }
  }

  /// Makes all steps of this share on the calling thread.
  func run(
    _ pageSize: PageSize, resolveTimeout: UInt64, forbidden: RegionGroup?, counting counters: SharedCounters
  ) {
    // A filler allocates, and a signal handler of the program may interrupt the calling thread.
    var filler = holdingSignals { BulkFiller(pageSize: pageSize, resolveTimeout: resolveTimeout) }
    var isDone = false
    while !isDone {
      counters.countRequests()
      isDone = step(&filler, forbidden: forbidden, counting: counters)
    }
    endHoldingSignals(filler)
  }
}

/// Fills a share of a prefetch on the thread that calls it.
protocol PrefetchFiller: AnyObject, Sendable {
  func fill(_ job: PrefetchJob)
}

/// A second share of a prefetch and, if a filler is given, the thread that fills it.
final class PrefetchHelp: Sendable {
  /// Nil where a second thread would be of no use, or where the provider permits only one.
  let job: PrefetchJob?
  let thread: FaultThread?

  init(of job: PrefetchJob, by filler: some PrefetchFiller) {
    let helper = job.helper()
    self.job = helper
    thread = helper.flatMap { helper in
      try? FaultThread(name: "fault-prefetch", stackByteCount: 1 << 20) { filler.fill(helper) }
    }
  }

  /// Leaves it to the caller to fill the share.
  init(of job: PrefetchJob) {
    self.job = job.helper()
    thread = nil
  }
}

/// The common state of all shares of one prefetch: which bytes no share has taken yet, and what went wrong.
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

  /// Returns the number of bytes that one thread takes at a time; `Int.max` where one thread fills the range alone.
  private static func stretchByteCount(_ region: Region, _ byteCount: Int) -> Int {
    guard region.mayBeAskedConcurrently, byteCount >= leastSharedByteCount, cuffd_allowed_cpu_count() > 1 else {
      return .max
    }
    // A stretch consists of whole huge pages, and is so small that both threads end at nearly the same time.
    let stretch = max(leastSharedByteCount / 8, Int(cuffd_huge_page_size()))
    return byteCount >= 4 * stretch ? stretch : .max
  }

  /// The smallest range that two threads share. A smaller one is filled before a second thread has begun to run.
  private static let leastSharedByteCount = 16 << 20

  var isShared: Bool { stretchByteCount != .max }

  var failure: BulkFiller.Failure? { lowestFailure.withLock { $0 } }

  /// Takes the next stretch and returns it; nil where none is left.
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

  /// Records a failure, and lets no share take a further stretch. Stretches that were taken are still filled, so all
  /// pages in front of the lowest failure are there in the end.
  func fail(_ failure: BulkFiller.Failure) {
    next.store(end, ordering: .relaxed)
    lowestFailure.withLock { lowest in
      if lowest.map({ failure.page < $0.page }) ?? true { lowest = failure }
    }
  }
}
