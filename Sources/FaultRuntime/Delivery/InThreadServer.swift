internal import CUFFD
internal import Synchronization

/// The delivery in which a faulting thread serves itself: with `UFFD_FEATURE_SIGBUS` the kernel queues no message and puts
/// nobody to sleep, but raises SIGBUS, and the provider runs in the signal handler. No other thread takes part, which saves
/// two switches of threads.
///
/// Nothing here allocates or locks unless a page fails.
final class InThreadServer: Sendable {
  let uffd: Userfaultfd

  private let pageSize: PageSize
  private let staging: StagingPool
  private let onFailure: (@Sendable (PageFailure) -> Void)?
  private let counters = SharedCounters()
  private let open = Atomic<Int>(0)

  init(configuration: FaultRuntimeConfiguration, pageSize: PageSize) throws(FaultRuntimeError) {
    do {
      uffd = try Userfaultfd.open(configuration.descriptor.candidates, wanting: [.sigbus, .poison])
    } catch {
      throw .unavailable(error)
    }
    guard uffd.enabled.contains(.sigbus) else { throw .featureMissing("UFFD_FEATURE_SIGBUS", since: "4.14") }
    guard let staging = StagingPool() else {
      throw .cannotStart(HostCallError(call: "mmap", errno: .outOfMemory))
    }
    self.staging = staging
    self.pageSize = pageSize
    onFailure = configuration.onFailure
  }

  var statistics: FaultStatistics { counters.statistics }
  var regionCount: Int { open.load(ordering: .relaxed) }

  // MARK: Control, on any thread

  /// Begins to serve faults of a region.
  func open(_ region: RegionCore) throws(FaultRuntimeError) {
    let dispatcher = SigbusDispatcher.shared
    do {
      try dispatcher.install()
    } catch {
      throw .cannotStart(error)
    }
    dispatcher.table.insert(region)
    do {
      try uffd.register(region.range, mode: .missing)
    } catch {
      dispatcher.table.remove(region)
      throw .cannotRegister(region, error.errno)
    }
    open.wrappingAdd(1, ordering: .relaxed)
  }

  /// Ends the service of a region whose closing has begun. Threads that are being served go on to meet SIGSEGV.
  func close(_ region: RegionCore) {
    region.withdraw(from: SigbusDispatcher.shared.table, uffd)
    open.wrappingSubtract(1, ordering: .relaxed)
  }

  /// Fills a range on the calling thread, with the help of another where that pays.
  func prefetch(_ job: PrefetchJob) {
    let helper = job.helper()
    let thread = helper.flatMap { helper in
      try? FaultThread(name: "fault-prefetch", stackByteCount: 1 << 20) { [self] in run(helper) }
    }
    // Without a thread for it, its share has been taken all the same.
    if thread == nil, let helper { run(helper) }
    run(job)
    thread?.join()
  }

  private func run(_ job: PrefetchJob) { job.run(uffd, pageSize, forbidden: nil, counting: counters) }

  // MARK: Service, in the signal handler

  /// Answers a fault. False where the access has to fail: the signal then goes on to whoever had it before.
  @inline(__always)
  func serve(_ region: RegionCore, _ address: UInt, isWrite: Bool) -> Bool {
    counters.countFault()
    let fault = PendingFault(page: pageSize.pageStart(of: address), isWrite: isWrite)
    if region.isClosing { return fail(fault, of: region, ResolutionError.regionClosed) }
    var run = FaultRun(region: region, fault: fault, index: 0)
    run.widen()
    do {
      try answer(run, fault)
      return true
    } catch {
      return narrow(run, fault, error)
    }
  }

  /// An error of a request that spans pages says little about the one that was touched: ask again for that.
  private func narrow(_ run: FaultRun, _ fault: PendingFault, _ error: any Error) -> Bool {
    if run.isOnePage { return fail(fault, of: run.region, error) }
    run.shrinkNext(at: run.start + run.region.requestUnit)
    do {
      try answer(FaultRun(region: run.region, onlyPageOf: fault, index: 0), fault)
      return true
    } catch {
      return fail(fault, of: run.region, error)
    }
  }

  @inline(__always)
  private func answer(_ run: FaultRun, _ fault: PendingFault) throws {
    try unsafe staging.withBytes(run.end - run.start) { stage in
      counters.countRequest()
      // Lent lazy memory needs no ban here: the copy gets EFAULT, or is served by another thread.
      let answer = unsafe try run.ask(
        lastWanted: run.region.offset(of: fault.page), isWrite: fault.isWrite, stage: stage, forbidden: nil)
      try unsafe put(answer.first, run)
      if let second = unsafe answer.second { try unsafe put(second, run) }
    }
  }

  @inline(__always)
  private func put(_ part: AnswerPart, _ run: FaultRun) throws {
    let range = unsafe part.range
    counters.countBytesFilled(range.byteCount)
    var done = 0
    var retries = 0
    while done < range.byteCount {
      // Nobody is asleep on a page that is there: whoever lost the race just looks again.
      switch unsafe uffd.put(part, after: done, earlierPresent: { 0 }) {
      case .done:
        return
      case .goOn(let completed):
        done += completed
      case .present where run.isBeyondNeed(range.start &+ UInt(bitPattern: done)):
        // Somebody was here before. Going on page by page would cost more than it saves.
        counters.countBytesFilled(done - range.byteCount)
        run.shrinkNext(at: run.region.offset(of: range.start) + done)
        return
      case .present:
        counters.countAlreadyPresent()
        counters.countBytesFilled(-pageSize.bytes)
        done += pageSize.bytes
      case .later where retries < Self.retryLimit:
        if retries == 0 { counters.countDeferral() }
        retries += 1
        cuffd_pause(0)
      case let step:
        try refuse(step, range.dropping(done), run)
        return
      }
    }
  }

  /// Events, which alone cause `EAGAIN`, are not asked for; this is for a kernel that thinks of other reasons.
  private static let retryLimit = 10_000

  private func refuse(_ step: ResolutionStep, _ rest: AddressRange, _ run: FaultRun) throws {
    counters.countBytesFilled(-rest.byteCount)
    switch step {
    case .gone where rest.byteCount > pageSize.bytes && !run.region.isClosing:
      // A request across two mappings is refused as a whole. The page alone, then.
      throw ResolutionError.refused(.noSuchEntry)
    case .fail(let errno):
      throw ResolutionError.refused(errno)
    case .later:
      throw ResolutionError.timedOut
    case .gone, .targetGone, .done, .goOn, .present, .endlesslyPresent:
      // The thread looks again, and meets what is there now.
      break
    case .copyInstead, .misuse:
      fatalError("FaultRuntime: resolving \(rest.byteCount) bytes at \(rest.start) ended in \(step)")
    }
  }

  /// Says why a page cannot be produced, and poisons it. False: the access fails; true: the page is there after all.
  private func fail(_ fault: PendingFault, of region: RegionCore, _ error: any Error) -> Bool {
    counters.countFailure()
    region.report(error, atPage: fault.page, to: onFailure)
    do {
      try uffd.poison(AddressRange(start: fault.page, byteCount: pageSize.bytes))
      return false
    } catch {
      switch ResolutionStep.after(.poison, completed: 0, errno: error.errno) {
      // A poisoned page counts as present here. Only one that is really there lets the thread go on.
      case .present: return cuffd_is_resident(UInt64(fault.page)) != 0
      case .gone: return true
      // Without poison (before Linux 6.6) the page stays missing, and the next touch asks again.
      default: return false
      }
    }
  }
}
