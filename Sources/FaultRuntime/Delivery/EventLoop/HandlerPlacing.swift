internal import CUFFD

/// Answers runs of faults: asks the provider, and puts what it says in place.
///
/// Confined to one handler thread. In its steady state it does not allocate.
struct Resolver: ~Copyable {
  private let loop: EventLoop
  private let pageSize: PageSize
  private var staging: StagingBuffer
  private var reports = PresentReports()
  private var free: FreeMemory
  private(set) var deferred: FaultBatch
  /// Changes places with `deferred` while its faults are taken out.
  private var spare: FaultBatch

  init(loop: EventLoop, capacity: Int) {
    self.loop = loop
    pageSize = loop.pageSize
    staging = StagingBuffer(reservingFor: loop.pageSize)
    free = FreeMemory(loop.table)
    deferred = FaultBatch(capacity: capacity)
    spare = FaultBatch(capacity: capacity)
  }

  /// Moves the faults that were put off into `inbox`, to be served again; those that have failed already are poisoned.
  mutating func takeDeferred(into inbox: inout FaultInbox) {
    swap(&spare, &deferred)
    for index in 0..<spare.count {
      let fault = spare[index]
      if !fault.hasFailed {
        inbox.insert(fault)
      } else if let region = loop.table.region(containing: fault.page) ?? loop.events.moved(to: fault.page)?.region {
        poison(fault, of: region)
      }
    }
    spare.removeAll()
  }

  /// Serves one run of the faults in `batch`. Where the kernel wants an event read first, messages go to `inbox`.
  ///
  /// - Throws: where the descriptor cannot be read; everything else ends at the page that it concerns.
  @inline(__always)
  mutating func serve(
    _ run: borrowing FaultRun, in batch: borrowing FaultBatch, readingOnInto inbox: inout FaultInbox
  ) throws(UserfaultfdError) {
    if run.region.isClosing {
      // Without poison, closing itself ends these accesses, when it takes the memory away.
      guard loop.uffd.canPoison || run.region.isLeftBehind else { return }
      failEach(run, in: batch, ResolutionError.regionClosed)
      return
    }
    do {
      try answer(run, in: batch, &inbox)
    } catch let error as UserfaultfdError {
      throw error
    } catch {
      try narrow(run, in: batch, &inbox, error)
    }
  }

  /// An error of a request that spans pages says little about each of them: ask again for those that threads wait for.
  private mutating func narrow(
    _ run: borrowing FaultRun, in batch: borrowing FaultBatch, _ inbox: inout FaultInbox, _ error: any Error
  ) throws(UserfaultfdError) {
    if run.isOnePage {
      fail(batch[run.faults.lowerBound], of: run.region, error)
      return
    }
    run.shrinkNext(at: run.start + run.region.requestUnit)
    for index in run.faults {
      let single = FaultRun(region: run.region, onlyPageOf: batch[index], index: index)
      do {
        try answer(single, in: batch, &inbox)
      } catch let error as UserfaultfdError {
        throw error
      } catch {
        fail(batch[index], of: run.region, error)
      }
    }
  }

  @inline(__always)
  private mutating func answer(
    _ run: borrowing FaultRun, in batch: borrowing FaultBatch, _ inbox: inout FaultInbox
  ) throws {
    guard let stage = unsafe staging.bytes(run.end - run.start, pageSize: pageSize) else {
      throw ResolutionError.refused(.noMemory)
    }
    loop.counters.countRequest()
    loop.note(run.range)
    let answer = unsafe try run.ask(
      lastWanted: run.region.offset(of: batch[run.faults.upperBound - 1].page),
      isWrite: batch[run.faults.lowerBound].isWrite,
      stage: stage,
      // The copy would fault on this very thread, which is the one that serves faults.
      isForbidden: { free.isLazy($0) })
    try unsafe put(answer.first, run, in: batch, &inbox)
    if let second = unsafe answer.second { try unsafe put(second, run, in: batch, &inbox) }
  }

  /// Puts one part in place, until every page of it is resolved, put off, or failed.
  @inline(__always)
  private mutating func put(
    _ part: AnswerPart, _ run: borrowing FaultRun, in batch: borrowing FaultBatch, _ inbox: inout FaultInbox
  ) throws {
    let range = unsafe part.range
    loop.counters.countBytesFilled(range.byteCount)
    var done = 0
    var retries = 0
    while done < range.byteCount {
      let step = unsafe loop.uffd.put(part, after: done) {
        reports.count(for: range.start &+ UInt(bitPattern: done), now: cuffd_monotonic_nanoseconds())
      }
      switch step {
      case .done:
        return
      case .goOn(let completed):
        done += completed
      case .later where retries < loop.immediateRetries && inbox.hasRoom:
        if retries == 0 { loop.counters.countDeferral() }
        retries += 1
        _ = try inbox.read(from: loop.uffd, ownThreads: loop.ownThreads, counting: loop.counters)
        // The thread whose event was read has to run before anything can be resolved.
        cuffd_pause(0)
      case .present where run.isBeyondNeed(range.start &+ UInt(bitPattern: done)):
        // Somebody was here before. Going on page by page would cost more than it saves.
        loop.counters.countBytesFilled(done - range.byteCount)
        run.shrinkNext(at: run.region.offset(of: range.start) + done)
        return
      case .present
      where unsafe part.source == nil && (try? loop.uffd.cure(range.dropping(done).prefix(pageSize.bytes))) != nil:
        done += pageSize.bytes
      default:
        let rest = range.dropping(done)
        try handle(step, at: rest, run, in: batch)
        // Whatever `handle` did not throw for concerns one page, or all of the rest.
        done += step == .present ? pageSize.bytes : rest.byteCount
      }
    }
  }

  /// The steps that are not on the way of a healthy fault.
  private mutating func handle(
    _ step: ResolutionStep, at rest: AddressRange, _ run: borrowing FaultRun, in batch: borrowing FaultBatch
  ) throws {
    let unfilled = step == .present ? pageSize.bytes : rest.byteCount
    loop.counters.countBytesFilled(-unfilled)
    switch step {
    case .done, .goOn:
      break
    case .present:
      loop.counters.countAlreadyPresent()
      for index in run.faults where batch[index].page == rest.start {
        reports.add(rest.start, now: cuffd_monotonic_nanoseconds())
        wake(AddressRange(start: rest.start, byteCount: pageSize.bytes))
      }
    case .later:
      for index in run.faults where rest.contains(batch[index].page) { putOff(batch[index], of: run.region) }
    case .gone:
      // A part of the unit may still be ours: a request across two mappings is refused as a whole. Page by page, then.
      if rest.byteCount > pageSize.bytes, !run.region.isClosing {
        throw ResolutionError.refused(.noSuchFileOrDirectory)
      }
      wake(rest)
    case .targetGone:
      break
    case .endlesslyPresent:
      reports.forget(rest.start)
      throw ResolutionError.refused(.fileExists)
    case .fail(let errno):
      throw ResolutionError.refused(errno)
    case .copyInstead, .misuse:
      fatalError("FaultRuntime: resolving \(rest.byteCount) bytes at \(rest.start) ended in \(step)")
    }
  }

  /// Remembers a fault that cannot be resolved now. After the deadline it is only poisoned, as soon as the kernel lets it.
  private mutating func putOff(_ fault: PendingFault, of region: Region) {
    var fault = fault
    let now = cuffd_monotonic_nanoseconds()
    if fault.deferredSince == 0 { fault.deferredSince = now }
    loop.counters.countDeferral()
    if !fault.hasFailed, now - fault.deferredSince >= loop.deferralDeadline {
      report(fault, of: region, ResolutionError.timedOut)
      fault.hasFailed = true
    }
    if deferred.isFull {
      // No memory is needed to remember a fault that the kernel will report again.
      wake(AddressRange(start: fault.page, byteCount: pageSize.bytes))
    } else {
      deferred.insert(fault)
    }
  }

  private mutating func failEach(_ run: borrowing FaultRun, in batch: borrowing FaultBatch, _ error: any Error) {
    for index in run.faults { fail(batch[index], of: run.region, error) }
  }

  /// A fault where no region is: it was closed since, and its addresses may belong to another handler's, or its memory was moved.
  mutating func answerStray(_ page: UInt) {
    if let moved = loop.events.moved(to: page) {
      // Not as the pool would: while it waits for an event to be read, nobody would read it.
      fail(PendingFault(page: page, isWrite: false), of: moved.region, ResolutionError.memoryMoved)
      return
    }
    let range = AddressRange(start: page, byteCount: pageSize.bytes)
    let now = cuffd_monotonic_nanoseconds()
    // Whoever still waits meets what is there now; where that is nothing but the same fault, it is not for ever.
    if reports.count(for: page, now: now) >= ResolutionStep.presentLimit, (try? loop.uffd.poison(range)) != nil {
      return
    }
    reports.add(page, now: now)
    wake(range)
  }

  /// Says why a page cannot be produced, and makes the accesses to it fail.
  mutating func fail(_ fault: PendingFault, of region: Region, _ error: any Error) {
    if region.hasBeenServed(fault.page) {
      wake(AddressRange(start: fault.page, byteCount: pageSize.bytes))
      return
    }
    // Before the access fails, because the program may not survive that.
    report(fault, of: region, error)
    var fault = fault
    fault.hasFailed = true
    poison(fault, of: region)
  }

  private mutating func poison(_ fault: PendingFault, of region: Region) {
    let page = AddressRange(start: fault.page, byteCount: pageSize.bytes)
    do {
      try loop.uffd.poison(page)
    } catch {
      switch ResolutionStep.after(.poison, completed: 0, errno: error.errno) {
      case .later: putOff(fault, of: region)
      // Present or gone: whoever waits meets what is there now.
      case .present, .gone: wake(page)
      case .targetGone, .done, .goOn: break
      default: loop.reporter.cannotPoison(fault.page, of: region)
      }
    }
  }

  private func report(_ fault: PendingFault, of region: Region, _ cause: any Error) {
    loop.counters.countFailure()
    loop.reporter.report(cause, atPage: fault.page, of: region)
  }

  /// Errors of a wake mean that nobody can be waiting there.
  private func wake(_ range: AddressRange) {
    try? loop.uffd.wake(range)
  }
}
