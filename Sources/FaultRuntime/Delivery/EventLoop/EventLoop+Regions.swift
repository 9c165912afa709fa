internal import CUFFD

/// The functions with which other threads open, close and fill the regions of a handler.
extension EventLoop: RegionServer {
  var delivery: Delivery { .eventLoop }
  var descriptor: DescriptorKind? { uffd.kind }
  var widestFault: Int { .max }

  var group: ObjectIdentifier { lazyMemory.id }

  /// Always false: the faults of an event loop are messages, and its pages raise a signal only after they have failed.
  func serve(_ fault: PendingFault, of region: Region, signal: CInt, _ nesting: FaultNesting) -> Bool { false }

  func makeMemory(
    byteCount: Int, alignment: Int, isWritable: Bool, pageSize: PageSize
  ) throws(HostCallError) -> any RegionMemory {
    let range = try AddressSpace.ofThisProcess.reserve(
      byteCount: byteCount, alignment: alignment, isWritable: isWritable)
    return AnonymousMemory(range, isWritable: isWritable, pageSize: pageSize, userfaultfd: userfaultfd)
  }

  func open(_ region: Region) throws(FaultRuntimeError) {
    try watchdog.watch(timeout: region.timeout)
    do throws(FaultRuntimeError) {
      try begin(region)
    } catch {
      watchdog.regionEnded(timeout: region.timeout)
      throw error
    }
  }

  private func begin(_ region: Region) throws(FaultRuntimeError) {
    if region.mayBlock { try prepare(for: region) }
    if region.explainsFailures {
      // A program that dies because it touches a failed page says so first.
      do {
        try SignalDispatcher.shared.install(CUFFD_SIGBUS)
      } catch {
        throw .cannotStart(error)
      }
    }
    table.insert(region)
    do {
      try AnonymousMemory.of(region).register()
    } catch {
      table.remove(region)
      throw .cannotRegister(region, error.errno)
    }
  }

  func close(_ region: Region) {
    // The handler poisons the pages of a closing region whose faults are still in its queue.
    drain(nanoseconds: closeTimeout)
    if region.mayBlock, !pool.isOnPoolThread { inFlight.waitUntilNothing(of: region, nanoseconds: closeTimeout) }
    holdingSignals {
      region.withdraw { table.remove(region) }
      if region.isLeftBehind { leftBehind.withLock { $0.append(region) } }
      events.forget(region)
      watchdog.regionEnded(timeout: region.timeout)
    }
  }

  /// Fills a range, in steps between the faults, which go first. The caller waits as long as the provider takes.
  func prefetch(_ region: Region, _ range: Range<Int>) throws(FaultRuntimeError) -> BulkFiller.Failure? {
    // A handler thread would wait for itself.
    guard !isOnHandlerThread else { throw .prefetchFromProvider(region) }
    if region.mayBlock { return try prefetchOnPool(region, range) }
    return withObjectMadeUnderHeldSignals({
      PrefetchJob(region: region, from: range.lowerBound, to: range.upperBound)
    }) { job in
      ask { $0.prefetches.append(job) }
      // The caller has nothing else to do, so it helps where two threads may share the work.
      withObjectMadeUnderHeldSignals({ PrefetchHelp(of: job) }) { help in
        help.job?.run(pageSize, resolveTimeout: resolveTimeout, forbidden: lazyMemory, counting: pooled.counters)
      }
      while !job.done.wait(nanoseconds: closeTimeout) {}
      return job.failure
    }
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
