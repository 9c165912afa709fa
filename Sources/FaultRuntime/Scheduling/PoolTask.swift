// Safe to share: the lock of `RequestsInFlight` protects what changes while it is under way; the rest is written by whoever
// made it, before it is handed over.
/// A piece of a region that a thread of the pool is asked for, or is working on. Reused, so that faults allocate nothing.
final class PoolRequest: @unchecked Sendable {
  /// Nil while it is not in use.
  var region: RegionCore?
  var start = 0
  var end = 0
  /// Where the units end that somebody waits for, as in `FaultRun`.
  var neededEnd = 0
  var isWrite = false
  /// The pages that threads wait for. Grows while the request is under way.
  var waiting: [UInt] = []
  /// Prefetches that go on when this is done.
  var followers: [PoolPrefetch] = []

  init() { waiting.reserveCapacity(16) }

  @inline(__always)
  func covers(_ offset: Int, of other: RegionCore) -> Bool { region === other && offset >= start && offset < end }
}

/// What the pool works off: demand before prefetch.
enum PoolTask: Sendable {
  // The region by itself, because a request that has ended may have another one already.
  case demand(PoolRequest, RegionCore, EventLoop)
  case prefetch(PoolPrefetch, EventLoop)

  var region: RegionCore {
    switch self {
    case .demand(_, let region, _): region
    case .prefetch(let job, _): job.region
    }
  }
}
