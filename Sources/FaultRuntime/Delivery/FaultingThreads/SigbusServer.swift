internal import CUFFD
internal import Synchronization

/// The delivery in which a faulting thread serves itself: with `UFFD_FEATURE_SIGBUS` the kernel queues no message and puts
/// nobody to sleep, but raises SIGBUS, and the provider runs in the signal handler. No other thread takes part, which saves
/// two switches of threads.
///
/// Nothing here allocates or locks unless a page fails.
final class SigbusServer: FaultingThreadServer {
  let uffd: Userfaultfd

  private let pageSize: PageSize
  private let staging: StagingPool
  let counters = SharedCounters()
  private let resolver: DirectResolver
  /// How long the kernel may ask for another try, in nanoseconds.
  private let retryDeadline: UInt64
  private let open = Atomic<Int>(0)

  init(configuration: FaultRuntimeConfiguration, pageSize: PageSize) throws(FaultRuntimeError) {
    do {
      uffd = try Userfaultfd.open(
        configuration.descriptorChoice.candidates(servingSystemCalls: false), wanting: [.sigbus, .poison],
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
    retryDeadline = configuration.resolveTimeout.clampedNanoseconds
    resolver = DirectResolver(
      pageSize: pageSize, counters: counters, reporter: FailureReporter(configuration),
      retryDeadline: retryDeadline, wakes: false)
  }

  var statistics: FaultStatistics { counters.statistics }
  var regionCount: Int { open.load(ordering: .relaxed) }

  // MARK: Control, on any thread

  /// Begins to serve faults of a region.
  func open(_ region: Region) throws(FaultRuntimeError) {
    let dispatcher = SignalDispatcher.shared
    do {
      try dispatcher.install(CUFFD_SIGBUS)
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
  func close(_ region: Region) {
    region.withdraw(from: SignalDispatcher.shared.table, uffd)
    open.wrappingSubtract(1, ordering: .relaxed)
  }

  /// Fills a range on the calling thread, with the help of another where that pays.
  func prefetch(_ job: PrefetchJob) {
    job.runShared { [self] in run($0) }
  }

  private func run(_ job: PrefetchJob) {
    job.run(uffd, pageSize, retryDeadline: retryDeadline, forbidden: nil, counting: counters)
  }

  // MARK: Service, in the signal handler

  /// The kernel has judged already: it tells missing pages from others.
  @inline(__always)
  func judge(_ fault: PendingFault, of region: Region) -> FaultVerdict { .missing }

  func fail(_ page: UInt, of region: Region, _ error: any Error) -> Bool {
    resolver.fail(page, of: region, error, uffd)
  }

  @inline(__always)
  func answer(_ run: borrowing FaultRun, _ fault: PendingFault) throws {
    try unsafe staging.withBytes(run.end - run.start) { stage in
      // Lent lazy memory needs no ban here: the copy gets EFAULT, or is served by another thread.
      _ = unsafe try resolver.answer(
        run, lastWanted: run.region.offset(of: fault.page), isWrite: fault.isWrite, stage: stage, forbidden: nil, uffd)
    }
  }
}
