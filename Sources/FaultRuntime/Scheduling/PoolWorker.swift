/// Works off tasks on a thread of the pool.
struct PoolWorker: ~Copyable {
  private var staging = StagingBuffer(reservingFor: PageSize.ofHost())
  private var filler: BulkFiller?
  /// The pages that threads wait for, of the request that is being served.
  private var waiting: [UInt] = []

  init() { waiting.reserveCapacity(64) }

  mutating func run(_ task: PoolTask, pool: ProviderPool) {
    switch task {
    case .demand(let request, let region, let loop):
      serve(request, of: region, loop, pool)
    case .prefetch(let job, let loop):
      step(job, loop, pool)
    case .abandon(let job, let loop):
      let error = ResolutionError.deadlineExceeded(.nanoseconds(Int64(clamping: job.region.deadline)))
      if job.giveUp(error, at: job.end) { pool.submit(.prefetch(job, loop)) }
    case .peek(let job, let loop):
      loop.pooled.counters.countRequests()
      job.run(&staging, forbidden: loop.table)
    }
  }

  // MARK: Demand

  private mutating func serve(_ request: PoolRequest, of region: RegionCore, _ loop: EventLoop, _ pool: ProviderPool) {
    let run = FaultRun(region: region, from: request.start, to: request.end, neededEnd: request.neededEnd)
    loop.inFlight.take(request, waiting: &waiting)
    if request.permit.isWithdrawn { return }
    var filled = request.start..<request.start
    do {
      do {
        if region.isClosing { throw ResolutionError.regionClosed }
        let last = waiting.max().map { region.offset(of: $0) } ?? request.start
        filled = request.start..<(try answer(run, lastWanted: last, isWrite: request.isWrite, request.permit, loop))
      } catch let error where !(error is WithdrawnError) {
        try narrow(run, error, request.permit, loop)
      }
    } catch {
      // Others have seen to those who waited.
      return loop.pooled.counters.countLateAnswer()
    }
    loop.finish(
      request, filled: filled, handled: filled.isEmpty ? waiting.count : 0, known: waiting.count, pool)
  }

  /// An error of a request that spans pages says little about each of them: ask again for those that threads wait for.
  ///
  /// - Throws: a `WithdrawnError` where the request was given up meanwhile, and nothing else.
  private mutating func narrow(
    _ run: borrowing FaultRun, _ error: any Error, _ permit: AnswerPermit, _ loop: EventLoop
  ) throws {
    let region = run.region
    let isFirstOfPage = !run.isOnePage && !region.isClosing
    run.shrinkNext(at: run.start + region.requestUnit)
    for page in Set(waiting).sorted() {
      let offset = region.offset(of: page)
      let single = FaultRun(region: region, from: offset, to: offset + region.pageSize.bytes)
      var error = error
      var attempts = RetryAttempts(region.retry)
      let isOver = { region.isClosing || permit.isWithdrawn }
      var asksAgain = isFirstOfPage || attempts.mayGoOn(after: error, until: isOver)
      var isThere = false
      while asksAgain, !isThere {
        do {
          _ = try answer(single, lastWanted: offset, isWrite: true, permit, loop)
          isThere = true
        } catch let latest {
          if latest is WithdrawnError { throw latest }
          error = latest
          asksAgain = attempts.mayGoOn(after: error, until: isOver)
        }
      }
      if isThere { continue }
      // So that it is not failed twice.
      try permit.beginPlacing()
      loop.pooled.fail(page, of: region, error, loop.uffd)
    }
  }

  private mutating func answer(
    _ run: borrowing FaultRun, lastWanted: Int, isWrite: Bool, _ permit: AnswerPermit, _ loop: EventLoop
  ) throws -> Int {
    guard let stage = unsafe staging.bytes(run.end - run.start, pageSize: run.region.pageSize) else {
      throw ResolutionError.refused(.outOfMemory)
    }
    loop.pooled.counters.countRequests()
    return unsafe try loop.pooled.answer(
      run, lastWanted: lastWanted, isWrite: isWrite, stage: stage, forbidden: loop.table, permit: permit, loop.uffd)
  }

  // MARK: Prefetch

  /// One step of a prefetch, over what nobody else is fetching.
  private mutating func step(_ job: PoolPrefetch, _ loop: EventLoop, _ pool: ProviderPool) {
    if filler == nil { filler = BulkFiller(pageSize: loop.pageSize, retryDeadline: loop.deferralDeadline) }
    let start = job.offset
    let end = job.end
    guard start < end else {
      // It was ahead of one reader, and has been set to where another one is.
      if job.hasEnded { job.done.signal() } else { pool.submit(.prefetch(job, loop)) }
      return
    }
    let stepEnd = min(end, filler!.boundary(in: job.region, after: start))
    guard let request = loop.inFlight.claim(for: job, from: start, to: stepEnd) else { return }
    loop.pooled.counters.countRequests()
    let progress = job.step(
      &filler!, from: start, to: request.end, loop.uffd, forbidden: loop.table, permit: request.permit,
      counting: { loop.pooled.counters.countBytesFilled($0) })
    switch progress {
    case .withdrawn:
      loop.pooled.counters.countLateAnswer()
    case .ended(let reached):
      loop.finish(request, filled: start..<max(start, reached), handled: 0, known: 0, pool)
      job.done.signal()
    case .goesOn(let reached):
      loop.finish(request, filled: start..<max(start, reached), handled: 0, known: 0, pool)
      pool.submit(.prefetch(job, loop))
    }
  }
}

extension EventLoop {
  /// Fails what has taken longer than its region's deadline, and lets others work in the place of those who are stuck in it.
  func giveUpOverdue() {
    for overdue in inFlight.withdrawOverdue() {
      let error = ResolutionError.deadlineExceeded(.nanoseconds(Int64(clamping: overdue.region.deadline)))
      for page in Set(overdue.pages).sorted() { pooled.fail(page, of: overdue.region, error, uffd) }
      // Before the job goes on elsewhere, where it would be taken for the one that is stuck.
      pool.giveUp(overdue.request)
      if let job = overdue.job, job.giveUp(error, at: overdue.request.end) { pool.submit(.prefetch(job, self)) }
      for job in overdue.followers { pool.submit(.prefetch(job, self)) }
    }
  }

  /// Ends a request of the pool's.
  fileprivate func finish(
    _ request: PoolRequest, filled: Range<Int>, handled: Int, known: Int, _ pool: ProviderPool
  ) {
    inFlight.finish(
      request, filled: filled, handled: handled, known: known,
      wake: { try? uffd.wake(AddressRange(start: $0, byteCount: pageSize.bytes)) },
      resubmit: { pool.submit(.prefetch($0, self)) })
  }
}
