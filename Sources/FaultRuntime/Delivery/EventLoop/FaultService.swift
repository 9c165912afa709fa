internal import CUFFD

/// The work of a handler thread: it reads faults in batches, answers them, and uses the time in between. Only the
/// thread of a handler that has the baton uses the service.
struct FaultService: ~Copyable {
  /// The reason why the serving thread stops.
  enum Exit: Sendable {
    case stop
    case handOver(to: HandlerRole)
  }

  private let loop: EventLoop
  private var answerer: FaultAnswerer
  private var lookup: RegionLookup<Region>
  private var filler: BulkFiller
  private var jobs: [PrefetchJob] = []
  private var stream: StreamAhead
  /// The stream of a provider that may block, which the pool works on. It is kept, so that it can be used again.
  private var poolStream: PoolPrefetch?
  private var placer: HandlerPlacer
  /// The memory in which the answers to peeks are assembled.
  private var peeking = StagingBuffer()

  private static let drainReads = 64

  /// Makes the service. The caller is the handler's ordinary thread.
  init(_ loop: EventLoop, configuration: FaultRuntimeConfiguration) {
    self.loop = loop
    lookup = RegionLookup(loop.table)
    answerer = FaultAnswerer(loop: loop)
    filler = BulkFiller(pageSize: loop.pageSize, resolveTimeout: loop.resolveTimeout)
    stream = StreamAhead(distance: configuration.streamDistance)
    placer = HandlerPlacer(
      configuration.placement, knowsThreads: loop.uffd.enabled.contains(.threadID),
      ignoresLoad: configuration.followsWhenBusy)
  }

  /// Stops handing over to the following thread for good.
  mutating func giveUpIdle() { placer.giveUpIdle() }

  /// Serves faults until the other thread should take over, or until the handler stops.
  mutating func run() -> Exit {
    do {
      while true {
        let ready = try wait()
        if ready.hasError(EventLoop.Token.faults) { fatalError("FaultRuntime: the userfaultfd reports an error") }
        var messages = 0
        if ready.hasInput(EventLoop.Token.faults), answerer.inbox.hasRoom {
          messages = try answerer.read()
        }
        if answerer.deferred.count > 0 { answerer.takeDeferred() }
        try serve()
        if ready.hasInput(EventLoop.Token.wakeup), try obey() { return .stop }
        if messages > 0 {
          if let next = placer.afterBatch(of: answerer.inbox.latestThread, messages: messages) {
            return .handOver(to: next)
          }
        } else {
          // This happens only when no fault is waiting, because demand goes first.
          workAhead()
        }
      }
    } catch {
      // No thread would serve the faults that come. A program that ends and says why is better than a program that
      // hangs.
      loop.epoll.endIfLost()
      loop.uffd.endIfLost()
      fatalError("FaultRuntime: the handler thread cannot go on: \(error)")
    }
  }

  @inline(__always)
  private func wait() throws(HostCallError) -> ReadySet {
    if !answerer.inbox.isEmpty || !jobs.isEmpty || stream.isGoing { return try loop.epoll.wait(milliseconds: 0) }
    if placer.spinNanoseconds > 0, let ready = try spin() { return ready }
    return try loop.epoll.wait(milliseconds: answerer.deferred.count == 0 ? -1 : 1)
  }

  private func spin() throws(HostCallError) -> ReadySet? {
    let start = cuffd_monotonic_nanoseconds()
    repeat {
      let ready = try loop.epoll.wait(milliseconds: 0)
      if !ready.isEmpty { return ready }
    } while cuffd_monotonic_nanoseconds() - start < placer.spinNanoseconds
    return nil
  }

  /// Answers everything in the inbox.
  @inline(__always)
  private mutating func serve() throws(UserfaultfdError) {
    answerer.beginBatch()
    var index = 0
    while index < answerer.batch.count {
      let fault = answerer.batch[index]
      guard let region = lookup.region(containing: fault.page), region.server === loop else {
        answerer.answerStray(fault.page)
        // The region of another handler must not be kept alive here.
        lookup.forget()
        index += 1
        continue
      }
      guard fault.kind == .missing else {
        answerer.answerUnexpected(fault, of: region)
        index += 1
        continue
      }
      if loop.events.hasMoves, loop.events.moved(to: fault.page) != nil {
        // Memory was moved to a place inside of a region's range. What belongs there by its address is not what
        // belongs to that memory.
        answerer.answerStray(fault.page)
        index += 1
        continue
      }
      if answerer.hasAnswered(fault, of: region) {
        index += 1
        continue
      }
      let run = takeRun(of: consume region, from: &index)
      answerer.note(run)
      if run.region.mayBlock, !run.region.isClosing {
        hand(run)
      } else {
        try answerer.serve(run)
        if run.isWidest { stream.follow(run) }
      }
    }
    answerer.endBatch()
  }

  /// Returns a run of the fault at `index` and of those behind it that belong to the same request, and makes `index`
  /// that of the next fault.
  @inline(__always)
  private func takeRun(of region: consuming Region, from index: inout Int) -> FaultRun {
    defer { index += 1 }
    // A larger run might reach into memory that was moved.
    if loop.events.hasMoves { return FaultRun(region: region, onlyPageOf: answerer.batch[index], index: index) }
    var run = FaultRun(region: region, fault: answerer.batch[index], index: index)
    while index + 1 < answerer.batch.count, run.absorb(answerer.batch[index + 1]) { index += 1 }
    run.widen()
    return run
  }

  /// Gives a run to the pool. Where accesses run on, the pool also prefetches the pages behind the run.
  private mutating func hand(_ run: borrowing FaultRun) {
    if let refusal = loop.pool.refusal(of: run.region) {
      for index in run.faults { answerer.refuse(answerer.batch[index], of: run.region, refusal) }
      return
    }
    var deadlocks: [(page: UInt, ends: SelfDeadlock)] = []
    loop.inFlight.admit(
      run, answerer.batch,
      submit: { [loop, region = run.region] in loop.pool.submit(.demand($0, region, loop)) },
      wake: { [loop] in try? loop.uffd.wake(AddressRange(start: $0, byteCount: loop.pageSize.bytes)) },
      resubmit: { [loop] in loop.pool.submit(.prefetch($0, loop)) },
      fail: { deadlocks.append(($0, $1)) })
    for deadlock in deadlocks {
      answerer.fail(
        PendingFault(page: deadlock.page, isWrite: false), of: run.region, ResolutionError.deadlock(deadlock.ends))
    }
    for index in run.faults where answerer.batch[index].asker != 0 {
      loop.pool.addThread(for: answerer.batch[index].asker)
    }
    guard run.isWidest, stream.distance > 0 else { return }
    let ahead = poolStream?.region === run.region ? poolStream! : PoolPrefetch(aheadOfReaderOf: run.region)
    poolStream = ahead
    let end = min(run.end + stream.distance, run.region.range.byteCount)
    if run.end < end, ahead.goOn(from: run.end, to: end) { loop.pool.submit(.prefetch(ahead, loop)) }
  }

  /// Makes one step of the oldest job or, if there is none, of the stream.
  private mutating func workAhead() {
    if !jobs.isEmpty {
      let job = jobs[0]
      loop.counters.countRequest()
      if job.step(&filler, forbidden: loop.lazyMemory, counting: loop) {
        jobs.removeFirst()
        job.done.signal()
      }
    } else if stream.isGoing, loop.events.hasMoves {
      // The stream would fill by address, and memory may have been moved into its way.
      stream.stop()
    } else if stream.isGoing {
      loop.counters.countRequest()
      stream.step(&filler, forbidden: loop.lazyMemory, counting: loop)
    }
  }

  /// Does what other threads have asked for. Returns whether the thread shall end.
  private mutating func obey() throws(UserfaultfdError) -> Bool {
    let wishes = loop.takeWishes()
    jobs += wishes.prefetches
    for peek in wishes.peeks {
      loop.counters.countRequest()
      peek.run(&peeking, forbidden: loop.lazyMemory)
    }
    guard !wishes.drains.isEmpty || wishes.isStopping else { return false }
    // A stream must not hold a region that is being closed.
    stream.stop()
    // All messages that were queued before are read first. A read that was not filled has reached the end of the
    // queue. The number of reads is limited for the case that many threads fill every read. Closing then relies on
    // the steps that it takes after draining.
    for _ in 0..<Self.drainReads {
      let count = try answerer.read()
      try serve()
      if count < loop.batchCapacity { break }
    }
    stream.stop()
    poolStream = nil
    lookup.forget()
    for drain in wishes.drains { drain.signal() }
    return wishes.isStopping
  }
}
