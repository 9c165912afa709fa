/// What the pool works off: demand before prefetch.
enum PoolTask: Sendable {
  // The region by itself, because a request that has ended may have another one already.
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

  /// Whether it runs on the thread for providers that cannot be asked by several threads.
  var isSerial: Bool {
    switch self {
    case .demand(_, let region, let server): server.asksSerially(region)
    case .prefetch(let job, let server): server.asksSerially(job.region)
    case .peek(let job, let server): server.asksSerially(job.region)
    }
  }

  /// Whether it is what `request` stands for.
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
