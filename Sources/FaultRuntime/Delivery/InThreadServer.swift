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
  private let counters = SharedCounters()
  private let resolver: DirectResolver
  /// How long the kernel may ask for another try, in nanoseconds.
  private let retryDeadline: UInt64
  private let open = Atomic<Int>(0)

  init(configuration: FaultRuntimeConfiguration, pageSize: PageSize) throws(FaultRuntimeError) {
    do {
      uffd = try Userfaultfd.open(
        configuration.descriptor.candidates(servingSystemCalls: false), wanting: [.sigbus, .poison],
        without: configuration.withheldFeatures)
    } catch {
      throw .unavailable(error)
    }
    guard uffd.enabled.contains(.sigbus) else { throw .featureMissing("UFFD_FEATURE_SIGBUS", since: "4.14") }
    guard let staging = StagingPool() else {
      throw .cannotStart(HostCallError(call: "mmap", errno: .outOfMemory))
    }
    self.staging = staging
    self.pageSize = pageSize
    retryDeadline = configuration.resolveDeadline.clampedNanoseconds
    resolver = DirectResolver(
      pageSize: pageSize, counters: counters, reporter: FailureReporter(configuration),
      retryDeadline: retryDeadline, wakes: false)
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

  private func run(_ job: PrefetchJob) {
    job.run(uffd, pageSize, retryDeadline: retryDeadline, forbidden: nil, counting: counters)
  }

  // MARK: Service, in the signal handler

  /// Answers a fault. False where the access has to fail: the signal then goes on to whoever had it before.
  @inline(__always)
  func serve(_ run: inout FaultRun, _ fault: PendingFault) -> Bool {
    counters.countFault()
    if run.region.isClosing {
      counters.countRequests(-1)
      return resolver.fail(fault.page, of: run.region, ResolutionError.regionClosed, uffd)
    }
    run.widen()
    do {
      try answer(run, fault)
      return true
    } catch {
      return narrow(run, fault, error)
    }
  }

  /// Fails a page without asking anybody.
  func fail(_ page: UInt, of region: RegionCore, _ error: any Error) -> Bool {
    resolver.fail(page, of: region, error, uffd)
  }

  /// An error of a request that spans pages says little about the one that was touched: ask again for that.
  private func narrow(_ run: borrowing FaultRun, _ fault: PendingFault, _ error: any Error) -> Bool {
    let region = run.region
    var error = error
    var attempts = RetryAttempts(region.retry)
    let isFirstOfPage = !run.isOnePage
    if isFirstOfPage { run.shrinkNext(at: run.start + region.requestUnit) }
    var asksAgain = isFirstOfPage || attempts.mayGoOn(after: error, until: { region.isClosing })
    while asksAgain {
      counters.countRequests()
      do {
        try answer(FaultRun(region: region, onlyPageOf: fault, index: 0), fault)
        return true
      } catch let latest {
        error = latest
      }
      asksAgain = attempts.mayGoOn(after: error, until: { region.isClosing })
    }
    return resolver.fail(fault.page, of: region, error, uffd)
  }

  @inline(__always)
  private func answer(_ run: borrowing FaultRun, _ fault: PendingFault) throws {
    try unsafe staging.withBytes(run.end - run.start) { stage in
      // Lent lazy memory needs no ban here: the copy gets EFAULT, or is served by another thread.
      _ = unsafe try resolver.answer(
        run, lastWanted: run.region.offset(of: fault.page), isWrite: fault.isWrite, stage: stage, forbidden: nil, uffd)
    }
  }
}
