internal import CUFFD

/// A delivery that has the providers of some of its regions asked on the pool.
protocol PoolServer: AnyObject, Sendable {
  var pool: ProviderPool { get }
  /// What the pool is fetching for this delivery.
  var inFlight: RequestsInFlight { get }
  /// How the pool puts that in place, and what it counts.
  var pooled: DirectAnswering { get }
  /// The memory that a provider must not lend.
  var lazyMemory: AddressTable { get }
  var pageSize: PageSize { get }
  /// How long the kernel may ask for another try, in nanoseconds.
  var retryDeadline: UInt64 { get }

  /// Whether the provider of `region` is asked on the one thread that the pool has for providers that cannot be asked by several
  /// threads.
  func asksSerially(_ region: Region) -> Bool

  /// Asks the provider of a run on a thread of the pool, and puts the answer in place. Returns the offset where what is there
  /// ends.
  func answerOnPool(
    _ run: borrowing FaultRun, lastWanted: Int, isWrite: Bool, stage: UnsafeMutableRawBufferPointer,
    _ permit: AnswerPermit
  ) throws -> Int
}

extension PoolServer {
  /// Has the threads started that a region needs.
  func prepare(for region: Region) throws(FaultRuntimeError) {
    do {
      try pool.prepare(serially: asksSerially(region))
    } catch {
      throw .cannotStart(error)
    }
    inFlight.reserveStaging(pageSize)
  }

  /// Fills a range on the pool, and waits for it. Returns the first page that could not be filled.
  func prefetchOnPool(_ region: Region, _ range: Range<Int>) throws(FaultRuntimeError) -> BulkFiller.Failure? {
    // The threads that would do it may all be waiting like this one.
    guard !pool.isOnPoolThread else { throw .prefetchFromProvider(region) }
    let job = PoolPrefetch(region, range)
    pool.submit(.prefetch(job, self))
    while !job.done.wait(nanoseconds: 5_000_000_000) {}
    return job.failure
  }

  /// Asks a provider on the pool for bytes that nobody touched. Returns false where the answer did not come in time.
  func peekOnPool(_ job: PeekJob) throws(FaultRuntimeError) -> Bool {
    guard !pool.isOnPoolThread else { throw .prefetchFromProvider(job.region) }
    pool.submit(.peek(job, self))
    let hasAnswered = job.wait()
    if !hasAnswered { pool.giveUp(job) }
    return hasAnswered
  }

  /// Ends a request of the pool's.
  func finish(_ request: PoolRequest, of region: Region, filled: Range<Int>, handled: Int, known: Int) {
    inFlight.finish(
      request, filled: filled, handled: handled, known: known,
      wake: { region.memory.wake(AddressRange(start: $0, byteCount: pageSize.bytes)) },
      resubmit: { pool.submit(.prefetch($0, self)) })
  }

  /// Fails what has taken longer than its region's deadline, and lets others work in the place of those who are stuck in it.
  func giveUpOverdue() {
    for overdue in inFlight.withdrawOverdue() {
      let error = ResolutionError.deadlineExceeded(.nanoseconds(Int64(clamping: overdue.region.deadline)))
      for page in Set(overdue.pages).sorted() { pooled.fail(page, of: overdue.region, error) }
      // Before the job goes on elsewhere, where it would be taken for the one that is stuck.
      pool.giveUp(overdue.request)
      if let job = overdue.job, job.giveUp(error, at: overdue.request.end) { pool.submit(.prefetch(job, self)) }
      for job in overdue.followers { pool.submit(.prefetch(job, self)) }
    }
    for overdue in pool.withdrawOverdue() {
      let error = ResolutionError.deadlineExceeded(.nanoseconds(Int64(clamping: overdue.job.region.deadline)))
      if overdue.job.giveUp(error, at: overdue.job.end) { pool.submit(.prefetch(overdue.job, overdue.server)) }
    }
  }
}
