/// Works off tasks on a thread of the pool.
struct PoolWorker: ~Copyable {
  private var staging = StagingBuffer()
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
    }
  }

  // MARK: Demand

  private mutating func serve(_ request: PoolRequest, of region: RegionCore, _ loop: EventLoop, _ pool: ProviderPool) {
    let run = FaultRun(region: region, from: request.start, to: request.end, neededEnd: request.neededEnd)
    loop.inFlight.takeWaiting(for: request, into: &waiting)
    var filled = request.start..<request.start
    do {
      if region.isClosing { throw ResolutionError.regionClosed }
      let last = waiting.max().map { region.offset(of: $0) } ?? request.start
      filled = request.start..<(try answer(run, lastWanted: last, isWrite: request.isWrite, loop))
    } catch {
      narrow(run, error, loop)
    }
    loop.finish(
      request, filled: filled, handled: filled.isEmpty ? waiting.count : 0, known: waiting.count, pool)
  }

  /// An error of a request that spans pages says little about each of them: ask again for those that threads wait for.
  private mutating func narrow(_ run: borrowing FaultRun, _ error: any Error, _ loop: EventLoop) {
    let isFinal = run.isOnePage || run.region.isClosing
    run.shrinkNext(at: run.start + run.region.requestUnit)
    for page in Set(waiting).sorted() {
      do {
        guard !isFinal else { throw error }
        let offset = run.region.offset(of: page)
        let single = FaultRun(region: run.region, from: offset, to: offset + run.region.pageSize.bytes)
        _ = try answer(single, lastWanted: offset, isWrite: true, loop)
      } catch {
        loop.pooled.fail(page, of: run.region, error, loop.uffd)
      }
    }
  }

  private mutating func answer(
    _ run: borrowing FaultRun, lastWanted: Int, isWrite: Bool, _ loop: EventLoop
  ) throws -> Int {
    guard let stage = unsafe staging.bytes(run.end - run.start, pageSize: run.region.pageSize) else {
      throw ResolutionError.refused(.outOfMemory)
    }
    loop.pooled.counters.countRequests()
    return unsafe try loop.pooled.answer(
      run, lastWanted: lastWanted, isWrite: isWrite, stage: stage, forbidden: loop.table, loop.uffd)
  }

  // MARK: Prefetch

  /// One step of a prefetch, over what nobody else is fetching.
  private mutating func step(_ job: PoolPrefetch, _ loop: EventLoop, _ pool: ProviderPool) {
    if filler == nil { filler = BulkFiller(pageSize: loop.pageSize) }
    let start = job.offset
    let stepEnd = min(job.end, filler!.boundary(in: job.region, after: start))
    guard let request = loop.inFlight.claim(for: job, from: start, to: stepEnd) else { return }
    loop.pooled.counters.countRequests()
    let isDone = job.step(
      &filler!, to: request.end, loop.uffd, forbidden: loop.table,
      counting: { loop.pooled.counters.countBytesFilled($0) })
    loop.finish(request, filled: start..<max(start, job.offset), handled: 0, known: 0, pool)
    if isDone { job.done.signal() } else { pool.submit(.prefetch(job, loop)) }
  }
}

extension EventLoop {
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
