// Safe to share: the lock of `RequestsInFlight` protects what changes while it is under way; the rest is written by whoever
// made it, before it is handed over.
/// A piece of a region that a thread of the pool is asked for, or is working on. Reused, so that faults allocate nothing.
final class PoolRequest: @unchecked Sendable {
  /// A thread of the runtime's own that waits for a page.
  struct Asker {
    var page: UInt
    var thread: UInt32
  }

  /// Nil while it is not in use.
  var region: RegionCore?
  var start = 0
  var end = 0
  /// Where the units end that somebody waits for, as in `FaultRun`.
  var neededEnd = 0
  var isWrite = false
  /// The pages that threads wait for. Grows while the request is under way.
  var waiting: [UInt] = []
  /// Those of the waiting threads that the runtime needs itself.
  var askers: [Asker] = []
  /// Prefetches that go on when this is done.
  var followers: [PoolPrefetch] = []
  /// The prefetch that made it, if any.
  var job: PoolPrefetch?
  /// The thread that works on it; 0 while none does.
  var runner: UInt32 = 0
  let permit = AnswerPermit()

  init() { waiting.reserveCapacity(16) }

  @inline(__always)
  func covers(_ offset: Int, of other: RegionCore) -> Bool { region === other && offset >= start && offset < end }

  /// How many of them whoever works on it knew when it began.
  var known = 0

  /// Takes a page in that a thread waits for. A thread that is interrupted by signals asks again and again; but one that asks
  /// again for a page that has been put in place has lost it since.
  func await(_ fault: PendingFault) {
    if !waiting[known...].contains(fault.page) { waiting.append(fault.page) }
    if fault.asker != 0 { askers.append(Asker(page: fault.page, thread: fault.asker)) }
  }

  /// What is said of the thread that works on this and touches another page, for which it would wait for ever.
  func deadlock(touching offset: Int, of touched: RegionCore) -> SelfDeadlock {
    SelfDeadlock(
      region: region?.name ?? "unknown", range: start..<end, touchedRegion: touched.name, touchedOffset: offset)
  }

  /// Makes it ready for its next use.
  func clear() {
    region = nil
    waiting.removeAll(keepingCapacity: true)
    askers.removeAll(keepingCapacity: true)
    followers.removeAll(keepingCapacity: true)
    job = nil
    known = 0
    runner = 0
  }
}

/// What the pool works off: demand before prefetch.
enum PoolTask: Sendable {
  // The region by itself, because a request that has ended may have another one already.
  case demand(PoolRequest, RegionCore, EventLoop)
  case prefetch(PoolPrefetch, EventLoop)
  /// A prefetch that cannot go on: the only request that its provider permits was given up and has not returned.
  case abandon(PoolPrefetch, EventLoop)
  case peek(PeekJob, EventLoop)

  var region: RegionCore {
    switch self {
    case .demand(_, let region, _): region
    case .prefetch(let job, _), .abandon(let job, _): job.region
    case .peek(let job, _): job.region
    }
  }

  /// Whether it is what `request` stands for.
  func isFor(_ request: PoolRequest) -> Bool {
    switch self {
    case .demand(let own, _, _): own === request
    case .prefetch(let job, _): job === request.job
    case .peek, .abandon: false
    }
  }

  func isFor(_ job: PeekJob) -> Bool {
    if case .peek(let own, _) = self { own === job } else { false }
  }
}
