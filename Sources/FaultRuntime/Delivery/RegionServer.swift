/// What serves the faults of a region.
enum RegionServer: Sendable {
  case eventLoop(EventLoop)
  case faultingThreads(InThreadServer)

  var delivery: Delivery {
    switch self {
    case .eventLoop: .eventLoop
    case .faultingThreads: .sigbus
    }
  }

  var descriptor: DescriptorKind {
    switch self {
    case .eventLoop(let loop): loop.uffd.kind
    case .faultingThreads(let server): server.uffd.kind
    }
  }

  func open(_ region: RegionCore) throws(FaultRuntimeError) {
    switch self {
    case .eventLoop(let loop): try loop.open(region)
    case .faultingThreads(let server): try server.open(region)
    }
  }

  func prefetch(_ job: PrefetchJob) throws(FaultRuntimeError) {
    switch self {
    case .eventLoop(let loop): try loop.prefetch(job)
    case .faultingThreads(let server): server.prefetch(job)
    }
  }

  func close(_ region: RegionCore) {
    switch self {
    case .eventLoop(let loop): loop.close(region)
    case .faultingThreads(let server): server.close(region)
    }
  }
}
