/// What serves the faults of a region.
enum RegionServer: Sendable {
  case eventLoop(EventLoop)
  case faultingThreads(SigbusServer)
  case protection(SigsegvServer)

  var delivery: Delivery {
    switch self {
    case .eventLoop: .eventLoop
    case .faultingThreads: .sigbus
    case .protection: .sigsegv
    }
  }

  /// Nil where there is none.
  var descriptor: DescriptorKind? {
    switch self {
    case .eventLoop(let loop): loop.uffd.kind
    case .faultingThreads(let server): server.uffd.kind
    case .protection: nil
    }
  }

  func open(_ region: Region) throws(FaultRuntimeError) {
    switch self {
    case .eventLoop(let loop): try loop.open(region)
    case .faultingThreads(let server): try server.open(region)
    case .protection(let server): try server.open(region)
    }
  }

  /// Fills a range, whole pages, and says which page could not be filled.
  func prefetch(_ region: Region, _ range: Range<Int>) throws(FaultRuntimeError) -> BulkFiller.Failure? {
    switch self {
    case .eventLoop(let loop) where region.mayBlock: return try loop.prefetchOnPool(region, range)
    case .eventLoop(let loop):
      let job = PrefetchJob(region: region, from: range.lowerBound, to: range.upperBound)
      try loop.prefetch(job)
      return job.failure
    case .faultingThreads(let server):
      let job = PrefetchJob(region: region, from: range.lowerBound, to: range.upperBound)
      server.prefetch(job)
      return job.failure
    case .protection(let server):
      let job = PrefetchJob(region: region, from: range.lowerBound, to: range.upperBound)
      try server.perform(for: region) { server.prefetch(job) }
      return job.failure
    }
  }

  /// Asks the provider without putting the answer into the region. False where it did not answer in time.
  func peek(_ job: PeekJob) throws(FaultRuntimeError) -> Bool {
    switch self {
    case .eventLoop(let loop): return try loop.peek(job)
    case .protection(let server):
      try server.perform(for: job.region) {
        var staging = StagingBuffer()
        job.run(&staging, forbidden: nil)
      }
      return true
    case .faultingThreads:
      // As a fault of the calling thread would.
      var staging = StagingBuffer()
      job.run(&staging, forbidden: nil)
      return true
    }
  }

  func close(_ region: Region) {
    switch self {
    case .eventLoop(let loop): loop.close(region)
    case .faultingThreads(let server): server.close(region)
    case .protection(let server): server.close(region)
    }
  }
}
