internal import CUFFD

/// The delivery in which a faulting thread serves itself: with `UFFD_FEATURE_SIGBUS` the kernel queues no message and puts
/// nobody to sleep, but raises SIGBUS, and the provider runs in the signal handler. No other thread takes part, which saves
/// two switches of threads.
///
/// Nothing here allocates or locks unless a page fails.
final class SigbusServer: FaultingThreadServer {
  let counters = SharedCounters()

  private let userfaultfd: SharedUserfaultfd
  private let pageSize: PageSize
  private let staging: StagingPool
  private let answering: DirectAnswering

  init(configuration: FaultRuntimeConfiguration, pageSize: PageSize) throws(FaultRuntimeError) {
    do {
      userfaultfd = SharedUserfaultfd(
        try Userfaultfd.open(
          configuration.descriptorChoice.candidates(servingSystemCalls: false), wanting: [.sigbus, .poison],
          without: configuration.withheldFeatures))
    } catch {
      throw .unavailable(error)
    }
    guard userfaultfd.uffd.enabled.contains(.sigbus) else {
      throw .featureMissing("UFFD_FEATURE_SIGBUS", since: "4.14")
    }
    guard let staging = StagingPool() else {
      throw .cannotStart(HostCallError(call: "mmap", errno: .noMemory))
    }
    self.staging = staging
    self.pageSize = pageSize
    answering = DirectAnswering(
      counters: counters, reporter: FailureReporter(configuration),
      retryDeadline: configuration.resolveTimeout.clampedNanoseconds, wakes: false)
  }

  var signal: CInt { CUFFD_SIGBUS }
  var delivery: Delivery { .sigbus }
  var descriptor: DescriptorKind? { userfaultfd.uffd.kind }
  var availableFeatures: UserfaultfdFeatures { userfaultfd.uffd.available }
  /// Faulting threads share staging memory in slots.
  var widestFault: Int { StagingPool.slotByteCount }
  var statistics: FaultStatistics { counters.statistics }

  // MARK: Control, on any thread

  func makeMemory(
    byteCount: Int, alignment: Int, isWritable: Bool, pageSize: PageSize, isTaken: (AddressRange) -> Bool
  ) throws(HostCallError) -> any RegionMemory {
    let range = try AddressRange.reservedForRegion(
      byteCount: byteCount, alignment: alignment, isWritable: isWritable, isTaken: isTaken)
    return AnonymousMemory(range, isWritable: isWritable, pageSize: pageSize, userfaultfd: userfaultfd)
  }

  func open(_ region: Region) throws(FaultRuntimeError) {
    try SignalDispatcher.shared.insert(region, server: self, signal: signal)
    do {
      try AnonymousMemory.of(region).register()
    } catch {
      SignalDispatcher.shared.remove(region)
      throw .cannotRegister(region, error.errno)
    }
  }

  /// Threads that are being served go on to meet SIGSEGV.
  func close(_ region: Region) {
    region.withdraw { SignalDispatcher.shared.remove(region) }
  }

  /// Fills a range on the calling thread, with the help of another one where that pays.
  func prefetch(_ region: Region, _ range: Range<Int>) throws(FaultRuntimeError) -> BulkFiller.Failure? {
    let job = PrefetchJob(region: region, from: range.lowerBound, to: range.upperBound)
    run(job)
    return job.failure
  }

  func run(_ job: PrefetchJob) {
    job.runShared { [self] in
      $0.run(pageSize, retryDeadline: answering.retryDeadline, forbidden: nil, counting: counters)
    }
  }

  /// Asks on the calling thread, as a fault of it would.
  func peek(_ job: PeekJob) throws(FaultRuntimeError) -> Bool {
    var staging = StagingBuffer()
    job.run(&staging, forbidden: nil)
    return true
  }

  // MARK: Service, in the signal handler

  /// The kernel has judged already: it tells missing pages from others.
  @inline(__always)
  func judge(_ fault: PendingFault, of region: Region) -> FaultVerdict { .missing }

  func serve(_ fault: PendingFault, of region: Region) -> Bool { serveHere(fault, of: region) }

  func fail(_ page: UInt, of region: Region, _ error: any Error) -> Bool {
    answering.fail(page, of: region, error)
  }

  @inline(__always)
  func answer(_ run: borrowing FaultRun, _ fault: PendingFault) throws {
    try unsafe staging.withBytes(run.end - run.start) { stage in
      // Lent lazy memory needs no ban here: the copy gets EFAULT, or is served by another thread.
      _ = unsafe try answering.answer(
        run, lastWanted: run.region.offset(of: fault.page), isWrite: fault.isWrite, stage: stage, forbidden: nil,
        effort: .inSignalHandler, in: AnonymousMemory.of(run.region))
    }
  }
}
