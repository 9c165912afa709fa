/// Does the tasks of one thread of the pool.
struct PoolWorker: ~Copyable {
  /// The memory in which the answers to peeks are assembled.
  private var staging = StagingBuffer(reservingFor: PageSize.ofHost())
  private var filler: BulkFiller?
  /// The pages of the current request that threads wait for.
  private var waiting: [UInt] = []

  init() { waiting.reserveCapacity(64) }

  mutating func run(_ task: PoolTask) {
    switch task {
    case .demand(let request, let region, let server):
      serve(request, of: region, server)
    case .prefetch(let job, let server):
      step(job, server)
    case .peek(let job, let server):
      server.pooled.counters.countRequests()
      job.run(&staging, forbidden: server.lazyMemory)
    }
  }

  // MARK: Demand

  private mutating func serve(_ request: PoolRequest, of region: Region, _ server: any PoolServer) {
    let run = FaultRun(region: region, from: request.start, to: request.end, neededEnd: request.neededEnd)
    server.inFlight.take(request, waiting: &waiting)
    if request.permit.isWithdrawn { return }
    var filled = request.start..<request.start
    do {
      do {
        if region.isClosing { throw ResolutionError.regionClosed }
        let last = waiting.max().map { region.offset(of: $0) } ?? request.start
        filled = request.start..<(try Self.answer(run, lastWanted: last, isWrite: request.isWrite, request, server))
      } catch let error where !(error is WithdrawnError) {
        try narrow(run, error, request, server)
      }
    } catch {
      // The request was withdrawn, and its waiting threads have got their answer.
      return server.pooled.counters.countLateAnswer()
    }
    server.finish(
      request, of: region, filled: filled, handled: filled.isEmpty ? waiting.count : 0, known: waiting.count)
  }

  /// - Throws: a `WithdrawnError` where the request was given up meanwhile, and nothing else.
  private func narrow(
    _ run: borrowing FaultRun, _ error: any Error, _ request: PoolRequest, _ server: any PoolServer
  ) throws {
    let region = run.region
    var request = request
    try FaultRun.narrow(
      error, of: run, to: Set(waiting).sorted(), with: &request,
      until: { [permit = request.permit] in region.isClosing || permit.isWithdrawn },
      ask: { request, page in
        let offset = region.offset(of: page)
        let single = FaultRun(region: region, from: offset, to: offset + region.pageSize.bytes)
        _ = try Self.answer(single, lastWanted: offset, isWrite: true, request, server)
      },
      giveUp: { request, page, error in
        // This throws if the request was withdrawn. Its pages have failed then, and must not fail a second time.
        try request.permit.beginPlacing()
        server.pooled.fail(page, of: region, error)
      })
  }

  private static func answer(
    _ run: borrowing FaultRun, lastWanted: Int, isWrite: Bool, _ request: PoolRequest, _ server: any PoolServer
  ) throws -> Int {
    guard let stage = unsafe request.staging.bytes(run.end - run.start, pageSize: run.region.pageSize) else {
      throw ResolutionError.noBuffer(of: run.end - run.start)
    }
    server.pooled.counters.countRequests()
    return unsafe try server.answerOnPool(
      run, lastWanted: lastWanted, isWrite: isWrite, stage: stage, request.permit)
  }

  // MARK: Prefetch

  /// Makes one step of a prefetch, over pages that no other request covers.
  private mutating func step(_ job: PoolPrefetch, _ server: any PoolServer) {
    if filler == nil { filler = BulkFiller(pageSize: server.pageSize, resolveTimeout: server.resolveTimeout) }
    let start = job.offset
    let end = job.end
    guard start < end else {
      // The prefetch was ahead of one reader, and its end was then set for a reader at a lower offset.
      if job.hasEnded { job.done.signal() } else { server.pool.submit(.prefetch(job, server)) }
      return
    }
    let stepEnd = min(end, filler!.boundary(in: job.region, after: start))
    guard let request = server.inFlight.claim(for: job, from: start, to: stepEnd) else { return }
    let counters = server.pooled.counters
    counters.countRequests()
    let progress = job.step(
      &filler!, from: start, to: request.end, forbidden: server.lazyMemory, permit: request.permit, counting: counters)
    switch progress {
    case .withdrawn:
      counters.countLateAnswer()
    case .ended(let reached):
      server.finish(request, of: job.region, filled: start..<max(start, reached), handled: 0, known: 0)
      job.done.signal()
    case .goesOn(let reached):
      server.finish(request, of: job.region, filled: start..<max(start, reached), handled: 0, known: 0)
      server.pool.submit(.prefetch(job, server))
    }
  }
}
