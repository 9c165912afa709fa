internal import CUFFD

/// The functions with which other threads open, close and fill the regions of a handler.
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
    do {
      try SignalDispatcher.shared.insert(region)
    } catch {
      throw .cannotStart(error)
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
    // The handler poisons the pages of a closing region whose faults are still in its queue.
    drain()
    if region.mayBlock, !pool.isOnPoolThread { inFlight.waitUntilNothing(of: region, nanoseconds: closeTimeout) }
    region.withdraw { table.remove(region) }
    SignalDispatcher.shared.forget(region)
    events.forget(region)
    regionEnded()
  }

  /// Fills a range, in steps between the faults, which go first. The caller waits as long as the provider takes.
  func prefetch(_ region: Region, _ range: Range<Int>) throws(FaultRuntimeError) -> BulkFiller.Failure? {
    // A handler thread would wait for itself.
    guard !isOnHandlerThread else { throw .prefetchFromProvider(region) }
    if region.mayBlock { return try prefetchOnPool(region, range) }
    let job = PrefetchJob(region: region, from: range.lowerBound, to: range.upperBound)
    ask { $0.prefetches.append(job) }
    // The caller has nothing else to do, so it helps where two threads may share the work.
    job.helper()?.run(pageSize, resolveTimeout: resolveTimeout, forbidden: table, counting: pooled.counters)
    while !job.done.wait(nanoseconds: closeTimeout) {}
    return job.failure
  }

  /// Asks a provider for bytes that are not put into the region, on the thread that also asks it because of faults.
  /// Waits for the answer, and returns false if it did not come in time.
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
