internal import CUFFD

/// The service of regions: what other threads ask of a handler.
extension EventLoop: RegionServer {
  var delivery: Delivery { .eventLoop }
  var descriptor: DescriptorKind? { uffd.kind }
  var widestFault: Int { .max }

  func makeMemory(
    byteCount: Int, alignment: Int, isWritable: Bool, pageSize: PageSize, isTaken: (AddressRange) -> Bool
  ) throws(HostCallError) -> any RegionMemory {
    let range = try AddressRange.reservedForRegion(
      byteCount: byteCount, alignment: alignment, isWritable: isWritable, isTaken: isTaken)
    return AnonymousMemory(range, isWritable: isWritable, pageSize: pageSize, userfaultfd: userfaultfd)
  }

  func open(_ region: Region) throws(FaultRuntimeError) {
    if region.mayBlock { try prepare(for: region) }
    if explainsFailures {
      do {
        try SignalDispatcher.shared.explain(region)
      } catch {
        throw .cannotStart(error)
      }
    }
    table.insert(region)
    do {
      try AnonymousMemory.of(region).register()
    } catch {
      table.remove(region)
      SignalDispatcher.shared.forget(region)
      throw .cannotRegister(region, error.errno)
    }
  }

  func close(_ region: Region) {
    // The handler poisons what it still finds in its queue for a region that is closing.
    drain()
    if region.mayBlock, !pool.isOnPoolThread { inFlight.waitUntilNothing(of: region, nanoseconds: closeDeadline) }
    region.withdraw { table.remove(region) }
    SignalDispatcher.shared.forget(region)
    events.forget(region)
    regionEnded()
  }

  /// Fills a range between the faults, which go first. A prefetch is as slow as its source.
  func prefetch(_ region: Region, _ range: Range<Int>) throws(FaultRuntimeError) -> BulkFiller.Failure? {
    // The thread that would do it would wait for itself.
    guard !isOnHandlerThread else { throw .prefetchFromProvider(region) }
    if region.mayBlock { return try prefetchOnPool(region, range) }
    let job = PrefetchJob(region: region, from: range.lowerBound, to: range.upperBound)
    ask { $0.prefetches.append(job) }
    // The caller would only wait, so it helps.
    job.helper()?.run(pageSize, retryDeadline: retryDeadline, forbidden: table, counting: pooled.counters)
    while !job.done.wait(nanoseconds: closeDeadline) {}
    return job.failure
  }

  /// Asks a provider for bytes that nobody touched, on the thread where it is asked for others.
  func peek(_ job: PeekJob) throws(FaultRuntimeError) -> Bool {
    guard !isOnHandlerThread else { throw .prefetchFromProvider(job.region) }
    if job.region.mayBlock { return try peekOnPool(job) }
    guard !pool.isOnPoolThread else { throw .prefetchFromProvider(job.region) }
    ask { $0.peeks.append(job) }
    let hasAnswered = job.wait()
    if !hasAnswered { pool.giveUp(job) }
    return hasAnswered
  }
}
