/// A piece of work for a thread of the pool. Peeks count as demand, which goes before prefetch.
enum PoolTask: Sendable {
  // The region is stored on its own, because a request that has ended may be in use for another region already.
  case demand(PoolRequest, Region, any PoolServer)
  case prefetch(PoolPrefetch, any PoolServer)
  case peek(PeekJob, any PoolServer)

  var region: Region {
    switch self {
    case .demand(_, let region, _): region
    case .prefetch(let job, _): job.region
    case .peek(let job, _): job.region
    }
  }

  var isPrefetch: Bool { if case .prefetch = self { true } else { false } }

  /// Whether the task has to run on a serial thread of the pool.
  var isSerial: Bool {
    switch self {
    case .demand(_, let region, let server): server.asksSerially(region)
    case .prefetch(let job, let server): server.asksSerially(job.region)
    case .peek(let job, let server): server.asksSerially(job.region)
    }
  }

  /// Whether the task is the work on `request`: either its demand, or the prefetch that made the request.
  func isFor(_ request: PoolRequest) -> Bool {
    switch self {
    case .demand(let own, _, _): own === request
    case .prefetch(let job, _): job === request.job
    case .peek: false
    }
  }

  func isFor(_ job: PeekJob) -> Bool {
    if case .peek(let own, _) = self { own === job } else { false }
  }
}
