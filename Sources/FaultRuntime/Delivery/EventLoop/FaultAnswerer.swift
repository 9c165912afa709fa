internal import CUFFD

/// Answers the faults that a handler has read: it asks the provider, and puts the answer in place.
///
/// Only one handler thread at a time uses it. After the first requests it does not allocate.
struct FaultAnswerer: ~Copyable {
  private let loop: EventLoop
  private let pageSize: PageSize
  private var staging: StagingBuffer
  private var reports = PresentReports()
  private var recent = RecentRuns()
  private var free: FreeMemory
  /// The faults that were read and have not been served yet.
  private(set) var inbox: FaultInbox
  /// The faults that are being served; empty between batches.
  private(set) var batch: FaultBatch
  private(set) var deferred: FaultBatch
  /// Changes places with `deferred` while the faults that were put off are taken out.
  private var spare: FaultBatch
  /// How often the current resolution has been tried again.
  private var tries = 0

  init(loop: EventLoop) {
    self.loop = loop
    pageSize = loop.pageSize
    staging = StagingBuffer(reservingFor: loop.pageSize)
    free = FreeMemory(loop.lazyMemory)
    inbox = FaultInbox(readCapacity: loop.batchCapacity, pageSize: loop.pageSize, events: loop.events)
    batch = FaultInbox.batch(readCapacity: loop.batchCapacity)
    deferred = FaultBatch(capacity: loop.batchCapacity)
    spare = FaultBatch(capacity: loop.batchCapacity)
  }

  // MARK: Taking faults

  /// Reads the messages that are waiting, up to the capacity of one read. Returns their number.
  @inline(__always)
  mutating func read() throws(UserfaultfdError) -> Int {
    try inbox.read(from: loop.uffd, ownThreads: loop.ownThreads, counting: loop.counters)
  }

  /// Makes the faults in the inbox the batch that is served.
  @inline(__always)
  mutating func beginBatch() { inbox.take(for: &batch) }

  mutating func endBatch() { batch.removeAll() }

  /// Moves the faults that were put off into the inbox, so that they are served again. Pages that have failed already
  /// are poisoned instead.
  mutating func takeDeferred() {
    swap(&spare, &deferred)
    for index in 0..<spare.count {
      let fault = spare[index]
      if !fault.hasFailed {
        inbox.insert(fault)
      } else if let region = loop.region(at: fault.page) {
        poison(fault, of: region)
      }
    }
    spare.removeAll()
  }

  /// Notes a range for which a provider is asked now.
  @inline(__always)
  mutating func note(_ run: borrowing FaultRun) { recent.add(run.range) }

  /// Wakes the thread that made a fault if the page has come since the fault was read. Returns false if the page has to
  /// be asked for. Only pages that were asked for a short time ago are looked at.
  @inline(__always)
  mutating func hasAnswered(_ fault: PendingFault, of region: Region) -> Bool {
    recent.contains(fault.page) && wakeIfPresent(fault.page, of: region)
  }

  private mutating func wakeIfPresent(_ page: UInt, of region: Region) -> Bool {
    let now = cuffd_monotonic_nanoseconds()
    // Where threads fault on a present page again and again, the kernel's own answer is needed.
    guard region.memory.isThere(page), reports.count(for: page, now: now) < ResolutionStep.presentLimit / 2 else {
      return false
    }
    loop.counters.countAlreadyPresent()
    reports.add(page, now: now)
    wake(AddressRange(start: page, byteCount: pageSize.bytes))
    return true
  }

  // MARK: Serving a run

  /// Serves one run of the faults in the batch. Where the kernel needs an event to be read first, further messages
  /// are read into the inbox.
  ///
  /// - Throws: a ``UserfaultfdError`` where the descriptor cannot be read. Every other error ends in the failure of
  ///   the page that it concerns.
  @inline(__always)
  mutating func serve(_ run: borrowing FaultRun) throws(UserfaultfdError) {
    if run.region.isClosing {
      // Where pages cannot be poisoned, closing ends these accesses when it takes the memory away.
      guard loop.uffd.canPoison || run.region.isLeftBehind else { return }
      for index in run.faults { fail(batch[index], of: run.region, ResolutionError.regionClosed) }
      return
    }
    do {
      try answer(run)
    } catch {
      try narrow(run, error)
    }
  }

  private mutating func narrow(_ run: borrowing FaultRun, _ error: any Error) throws(UserfaultfdError) {
    if let error = error as? UserfaultfdError { throw error }
    let region = run.region
    let faults = run.faults
    do {
      // The pages are identified by the indices of their faults, because a fault says more than its page.
      try FaultRun.narrow(
        error, of: run, to: faults, with: &self, until: { region.isClosing },
        ask: { answerer, index in
          let single = FaultRun(region: region, onlyPageOf: answerer.batch[index], index: index)
          try answerer.answer(single)
        },
        giveUp: { answerer, index, error in answerer.fail(answerer.batch[index], of: region, error) })
    } catch {
      guard let error = error as? UserfaultfdError else {
        fatalError("FaultRuntime: a run of faults ended in \(error)")
      }
      throw error
    }
  }

  @inline(__always)
  private mutating func answer(_ run: borrowing FaultRun) throws {
    guard let stage = unsafe staging.bytes(run.end - run.start, pageSize: pageSize) else {
      throw ResolutionError.noBuffer(of: run.end - run.start)
    }
    loop.counters.countRequest()
    loop.note(run.range)
    let answer = unsafe try run.ask(
      lastWanted: run.region.offset(of: batch[run.faults.upperBound - 1].page),
      isWrite: batch[run.faults.lowerBound].isWrite,
      stage: stage,
      // Copying from lazy memory would fault on this thread, which is the thread that serves faults.
      isForbidden: { free.isLazy($0) })
    tries = 0
    _ = try unsafe place(answer, of: run, in: AnonymousMemory.of(run.region))
  }

  // MARK: Faults that are not answered by a provider

  /// Answers a fault at an address that belongs to no region of this handler. Either the region was closed since, and
  /// another handler may have the address now, or the memory was moved there.
  mutating func answerStray(_ page: UInt) {
    if let moved = loop.events.moved(to: page) {
      // `DirectAnswering.fail`, which the pool uses, waits until an event has been read. This is the thread that
      // reads events, so it must not wait here.
      fail(PendingFault(page: page, isWrite: false), of: moved.region, ResolutionError.memoryMoved)
      return
    }
    let range = AddressRange(start: page, byteCount: pageSize.bytes)
    let now = cuffd_monotonic_nanoseconds()
    // A thread that still waits meets what is mapped there now. If that leads to the same fault again and again, the
    // page is poisoned in the end.
    if reports.count(for: page, now: now) >= ResolutionStep.presentLimit, (try? loop.uffd.poison(range)) != nil {
      return
    }
    reports.add(page, now: now)
    wake(range)
  }

  /// Answers a fault of a kind that no region of a handler is registered for. The page is there already in such a
  /// fault, so the provider is not asked. A write-protect fault only has the protection removed; for the other kinds
  /// the page fails.
  mutating func answerUnexpected(_ fault: PendingFault, of region: Region) {
    let range = AddressRange(start: fault.page, byteCount: pageSize.bytes)
    switch fault.kind {
    case .writeProtect:
      // The runtime protects no pages, so other code that has the descriptor did. The write goes on.
      if (try? loop.uffd.writeProtect(range, false)) != nil { return }
    case .minor, .missing:
      break
    }
    fail(fault, of: region, ResolutionError.refused(.invalidArgument))
  }

  /// Fails a page that cannot be asked for, unless it has come since its fault was read.
  mutating func refuse(_ fault: PendingFault, of region: Region, _ error: ResolutionError) {
    if region.memory.isThere(fault.page) {
      wake(AddressRange(start: fault.page, byteCount: pageSize.bytes))
    } else {
      fail(fault, of: region, error)
    }
  }

  /// Reports why a page cannot be produced, and makes accesses to it fail.
  mutating func fail(_ fault: PendingFault, of region: Region, _ error: any Error) {
    if region.hasBeenServed(fault.page) {
      wake(AddressRange(start: fault.page, byteCount: pageSize.bytes))
      return
    }
    // The report comes before the access fails, because the program may not survive the failure.
    report(fault, of: region, error)
    var fault = fault
    fault.hasFailed = true
    poison(fault, of: region)
  }

  private mutating func poison(_ fault: PendingFault, of region: Region) {
    let page = AddressRange(start: fault.page, byteCount: pageSize.bytes)
    switch region.memory.failPage(page) {
    case .later: putOff(fault, of: region)
    // The waiting threads meet what is there now.
    case .present, .gone: wake(page)
    case .targetGone, .done, .goOn: break
    default: loop.reporter.cannotPoison(fault.page, of: region)
    }
  }

  /// Remembers a fault that cannot be resolved now. After `resolveTimeout` its failure is reported, and the page is
  /// only poisoned, as soon as the kernel permits it.
  private mutating func putOff(_ fault: PendingFault, of region: Region) {
    var fault = fault
    let now = cuffd_monotonic_nanoseconds()
    if fault.deferredSince == 0 { fault.deferredSince = now }
    loop.counters.countDeferral()
    if !fault.hasFailed, now - fault.deferredSince >= loop.resolveTimeout {
      report(fault, of: region, ResolutionError.resolveTimedOut)
      fault.hasFailed = true
    }
    if deferred.isFull {
      // There is no room to remember the fault. The thread is woken instead, and the kernel reports its fault again.
      wake(AddressRange(start: fault.page, byteCount: pageSize.bytes))
    } else {
      deferred.insert(fault)
    }
  }

  private func report(_ fault: PendingFault, of region: Region, _ cause: any Error) {
    loop.counters.countFailure()
    loop.reporter.report(cause, atPage: fault.page, of: region)
  }

  /// A wake that fails means that no thread can be waiting there, so the error is ignored.
  private func wake(_ range: AddressRange) {
    try? loop.uffd.wake(range)
  }
}

/// A handler reads further messages where the kernel needs an event to be read. It puts off what cannot be resolved
/// even then.
extension FaultAnswerer: PlacingPolicy {
  var effort: PlacingEffort { .usual }

  @inline(__always)
  func countBytesFilled(_ amount: Int) { loop.counters.countBytesFilled(amount) }

  func presentReports(of page: UInt) -> Int { reports.count(for: page, now: cuffd_monotonic_nanoseconds()) }

  mutating func forgetPresentReports(of page: UInt) { reports.forget(page) }

  mutating func foundPresent(_ page: AddressRange, _ run: borrowing FaultRun) {
    loop.counters.countAlreadyPresent()
    for index in run.faults where batch[index].page == page.start {
      reports.add(page.start, now: cuffd_monotonic_nanoseconds())
      wake(page)
    }
  }

  mutating func triesAgain() throws -> Bool {
    guard tries < loop.immediateRetries, inbox.hasRoom else { return false }
    if tries == 0 { loop.counters.countDeferral() }
    tries += 1
    _ = try read()
    // The kernel resolves nothing before the thread whose event was read has run.
    cuffd_pause(0)
    return true
  }

  mutating func putOff(_ rest: AddressRange, _ run: borrowing FaultRun) {
    for index in run.faults where rest.contains(batch[index].page) { putOff(batch[index], of: run.region) }
  }

  mutating func foundGone(_ rest: AddressRange, _ run: borrowing FaultRun) { wake(rest) }
}

/// A descriptor that cannot be read ends the service of all faults. The error says nothing about a page.
extension UserfaultfdError: EndOfResolution {}
