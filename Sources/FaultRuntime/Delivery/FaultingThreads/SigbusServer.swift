internal import CUFFD

/// The delivery in which a faulting thread serves itself. With `UFFD_FEATURE_SIGBUS` the kernel queues no message and
/// lets no thread sleep. It raises SIGBUS instead, and the provider runs in the signal handler. No other thread takes
/// part, which saves two switches between threads. The thread of ``EventReader`` sleeps until the program changes the
/// memory itself.
final class SigbusServer: FaultingThreadServer, PrefetchFiller, DeliveryService {
  let counters = SharedCounters()

  private let userfaultfd: SharedUserfaultfd
  private let pageSize: PageSize
  let staging: StagingPool
  private let answering: DirectAnswering
  private let events: EventReader

  init(configuration: FaultRuntimeConfiguration, pageSize: PageSize) throws(FaultRuntimeError) {
    do {
      userfaultfd = SharedUserfaultfd(
        try Userfaultfd.open(
          configuration.descriptorChoice.candidates(servingSystemCalls: false),
          wanting: [.sigbus, .poison, .eventRemap, .eventUnmap],
          without: configuration.withheldFeatures))
    } catch {
      throw .unavailable(error)
    }
    guard userfaultfd.uffd.enabled.contains(.sigbus) else {
      throw .featureMissing("UFFD_FEATURE_SIGBUS", since: "4.14")
    }
    do {
      staging = try StagingPool()
      events = try EventReader(
        userfaultfd, table: AddressSpace.ofThisProcess.regions, onEvent: configuration.onEvent)
    } catch {
      throw .cannotStart(error)
    }
    self.pageSize = pageSize
    answering = DirectAnswering(
      counters: counters, reporter: FailureReporter(configuration),
      resolveTimeout: configuration.resolveTimeout.clampedNanoseconds, wakes: false)
  }

  var signal: CInt { CUFFD_SIGBUS }
  var delivery: Delivery { .sigbus }
  var descriptor: DescriptorKind? { userfaultfd.uffd.kind }
  var availableFeatures: UserfaultfdFeatures { userfaultfd.uffd.available }
  /// The size of a slot of staging memory. Faulting threads share these slots.
  var widestFault: Int { StagingPool.slotByteCount }
  var statistics: FaultStatistics { counters.statistics }

  // MARK: Control, on any thread

  func makeMemory(
    byteCount: Int, alignment: Int, isWritable: Bool, pageSize: PageSize
  ) throws(HostCallError) -> any RegionMemory {
    let range = try AddressSpace.ofThisProcess.reserve(
      byteCount: byteCount, alignment: alignment, isWritable: isWritable)
    return AnonymousMemory(range, isWritable: isWritable, pageSize: pageSize, userfaultfd: userfaultfd)
  }

  func open(_ region: Region) throws(FaultRuntimeError) {
    do {
      try events.regionBegins()
    } catch {
      throw .cannotStart(error)
    }
    do throws(FaultRuntimeError) {
      try begin(region)
    } catch {
      events.regionEnded(region)
      throw error
    }
  }

  private func begin(_ region: Region) throws(FaultRuntimeError) {
    try insert(region)
    do {
      try AnonymousMemory.of(region).register()
    } catch {
      remove(region)
      throw .cannotRegister(region, error.errno)
    }
  }

  /// Ends the service of a region. A thread whose fault is being answered gets SIGSEGV when it goes on.
  func close(_ region: Region) {
    // What the program has unmapped is not the region's any more.
    events.waitForEvents()
    holdingSignals {
      region.withdraw { remove(region) }
      events.regionEnded(region)
      // Unmapping would wait for the thread that reads events, which may be the one that drops the last reference.
      if region.isLeftBehind { _ = unsafe Unmanaged.passRetained(region) }
    }
  }

  func stop(nanoseconds: UInt64) { events.stop(nanoseconds: nanoseconds) }

  /// Fills a range on the calling thread. A second thread helps where that is faster and the provider permits it.
  func prefetch(_ region: Region, _ range: Range<Int>) throws(FaultRuntimeError) -> BulkFiller.Failure? {
    withObjectMadeUnderHeldSignals({
      PrefetchJob(region: region, from: range.lowerBound, to: range.upperBound)
    }) { job in
      job.runShared(by: self)
      return job.failure
    }
  }

  func fill(_ job: PrefetchJob) {
    job.run(pageSize, resolveTimeout: answering.resolveTimeout, forbidden: nil, counting: counters)
  }

  /// Asks the provider on the calling thread, as a fault of that thread would.
  func peek(_ job: PeekJob) throws(FaultRuntimeError) -> Bool {
    var staging = StagingBuffer()
    job.run(&staging, forbidden: nil)
    return true
  }

  // MARK: Service, in the signal handler

  /// Where the kernel tells a poisoned page from a missing one, signals for poisoned pages never come here. In a forked
  /// child the descriptor would put pages into the memory of the parent.
  @inline(__always)
  func judge(_ fault: PendingFault, of region: Region) -> FaultVerdict {
    guard region.isInOwnerProcess else { return .somebodyElses }
    return hasChanges ? events.verdict(on: fault.page, in: region) : .missing
  }

  @inline(__always)
  var hasChanges: Bool { events.hasChanges }

  func serve(_ fault: PendingFault, of region: Region, signal: CInt, _ nesting: FaultNesting) -> Bool {
    serveHere(fault, of: region, signal: signal, nesting)
  }

  func fail(_ page: UInt, of region: Region, _ error: any Error) -> Bool {
    let origin = hasChanges ? events.origin(of: page) : nil
    return answering.fail(page, of: origin ?? region, error)
  }

  @inline(__always)
  func answer(_ run: borrowing FaultRun, _ fault: PendingFault) throws {
    let stage = unsafe try staging.borrow(run.end - run.start)
    defer { unsafe staging.giveBack(stage) }
    // Lent lazy memory is not forbidden here: copying from it gets EFAULT, or another thread serves the fault.
    _ = unsafe try answering.answer(
      run, lastWanted: run.region.offset(of: fault.page), isWrite: fault.isWrite, stage: stage.bytes, forbidden: nil,
      effort: .inSignalHandler, in: { AnonymousMemory.of($0) })
  }
}
