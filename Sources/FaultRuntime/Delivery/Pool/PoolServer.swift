internal import CUFFD

/// A delivery that asks the providers of some of its regions on threads of the pool.
protocol PoolServer: AnyObject, Sendable {
  var pool: ProviderPool { get }
  /// The requests that the pool is fetching for this delivery.
  var inFlight: RequestsInFlight { get }
  /// Puts answers in place on threads of the pool, and counts them.
  var pooled: DirectAnswering { get }
  /// The lazy memory that a provider must not lend.
  var lazyMemory: RegionGroup { get }
  var pageSize: PageSize { get }
  /// How long the kernel may ask for another try, in nanoseconds.
  var resolveTimeout: UInt64 { get }

  /// Whether the provider of `region` is asked on the serial thread of the pool.
  func asksSerially(_ region: Region) -> Bool

  /// Asks the provider of a run on a thread of the pool, and puts the answer in place. Returns the offset at which
  /// the pages end that are there now.
  func answerOnPool(
    _ run: borrowing FaultRun, lastWanted: Int, isWrite: Bool, stage: UnsafeMutableRawBufferPointer,
    _ permit: AnswerPermit
  ) throws -> Int
}

extension PoolServer {
  /// Starts the threads of the pool that a region needs.
  func prepare(for region: Region) throws(FaultRuntimeError) {
    do {
      try pool.prepare(serially: asksSerially(region))
    } catch {
      throw .cannotStart(error)
    }
    inFlight.reserveStaging(pageSize)
  }

  /// Fills a range on the pool, and waits until that has ended. Returns nil, or the first page that could not be
  /// filled.
  func prefetchOnPool(_ region: Region, _ range: Range<Int>) throws(FaultRuntimeError) -> BulkFiller.Failure? {
    // If threads of the pool could wait here, all of them might, and none would be left to do the work.
    guard !pool.isOnPoolThread else { throw .prefetchFromProvider(region) }
    if let refusal = pool.refusal(of: region) {
      let pages = stride(from: range.lowerBound, to: range.upperBound, by: region.pageSize.bytes)
      let missing = pages.lazy.map { region.address(of: $0) }.first { !region.memory.isThere($0) }
      return missing.map { page in holdingSignals { BulkFiller.Failure(cause: refusal, page: page) } }
    }
    return withObjectMadeUnderHeldSignals({ PoolPrefetch(region, range) }) { job in
      pool.submit(.prefetch(job, self))
      while !job.done.wait(nanoseconds: 5_000_000_000) {}
      return job.failure
    }
  }

  /// Asks a provider on the pool for bytes that are not put into the region, and waits for them. Returns false if the
  /// answer did not come in time.
  func peekOnPool(_ job: PeekJob) throws(FaultRuntimeError) -> Bool {
    guard !pool.isOnPoolThread else { throw .prefetchFromProvider(job.region) }
    if let refusal = pool.refusal(of: job.region) {
      holdingSignals { job.refuse(refusal) }
      return true
    }
    pool.submit(.peek(job, self))
    let hasAnswered = job.wait()
    if !hasAnswered { pool.giveUp(job) }
    return hasAnswered
  }

  /// Ends a request, and wakes or submits again what waited for it, as ``RequestsInFlight`` says.
  func finish(_ request: PoolRequest, of region: Region, filled: Range<Int>, handled: Int, known: Int) {
    inFlight.finish(
      request, filled: filled, handled: handled, known: known,
      wake: { region.memory.wake(AddressRange(start: $0, byteCount: pageSize.bytes)) },
      resubmit: { pool.submit(.prefetch($0, self)) })
  }

  /// Fails the requests and prefetches that have taken longer than their region's timeout, and has other threads
  /// started in place of those that are stuck.
  func giveUpOverdue() {
    for overdue in inFlight.withdrawOverdue() {
      let error = ResolutionError.timeoutExceeded(of: overdue.region)
      for page in overdue.pages { pooled.fail(page, of: overdue.region, error) }
      pool.giveUp(overdue.request)
      if let job = overdue.job { giveUp(job, at: overdue.request.end, self) }
      for job in overdue.followers { pool.submit(.prefetch(job, self)) }
    }
    for job in inFlight.withdrawOverdueFollowers() { giveUp(job, at: job.end, self) }
    for overdue in pool.withdrawOverdue() { giveUp(overdue.job, at: overdue.job.end, overdue.server) }
  }

  private func giveUp(_ job: PoolPrefetch, at limit: Int, _ server: any PoolServer) {
    if job.giveUp(.timeoutExceeded(of: job.region), at: limit) { pool.submit(.prefetch(job, server)) }
  }
}

extension ResolutionError {
  fileprivate static func timeoutExceeded(of region: Region) -> ResolutionError {
    .timeoutExceeded(.nanoseconds(Int64(clamping: region.timeout)))
  }
}
