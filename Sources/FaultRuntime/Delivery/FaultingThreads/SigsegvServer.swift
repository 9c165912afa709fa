internal import CUFFD
internal import Synchronization

/// The delivery without a userfaultfd: memory that is not there has no access, the kernel raises SIGSEGV in the thread that
/// touches it, and the provider runs in the signal handler. The page is filled through a second mapping and opened when it is
/// complete. A provider that must not run there is asked by a helper, for which the thread waits.
///
/// Nothing here allocates unless a page fails.
final class SigsegvServer: FaultingThreadServer {
  let counters = SharedCounters()

  private let pageSize: PageSize
  private let staging: StagingPool
  private let resolver: DirectResolver
  private let notices: Notices
  private let helpers: ProtectionHelpers
  private let open = Atomic<Int>(0)
  private let saidLimit = Atomic<Bool>(false)
  /// Of all runtimes, or of this one where a test says so.
  let budget: MappingBudget

  private static let limitNotice = """
    the limit of mappings (vm.max_map_count) is near: to save them, faults now fill the pages up to their neighbours as well; \
    raise it, or use larger requests
    """

  init(configuration: FaultRuntimeConfiguration, pageSize: PageSize, notices: Notices) throws(FaultRuntimeError) {
    guard let staging = StagingPool() else {
      throw .cannotStart(HostCallError(call: "mmap", errno: .outOfMemory))
    }
    self.staging = staging
    self.pageSize = pageSize
    self.notices = notices
    helpers = ProtectionHelpers(threadCount: configuration.providerThreads)
    budget = configuration.mappingLimit.map { MappingBudget(limit: $0) } ?? SignalDispatcher.shared.budget
    resolver = DirectResolver(
      pageSize: pageSize, counters: counters, reporter: FailureReporter(configuration),
      retryDeadline: configuration.resolveTimeout.clampedNanoseconds, wakes: false)
  }

  var statistics: FaultStatistics { counters.statistics }
  var regionCount: Int { open.load(ordering: .relaxed) }

  // MARK: Control, on any thread

  /// Begins to serve faults of a region.
  func open(_ region: Region) throws(FaultRuntimeError) {
    let dispatcher = SignalDispatcher.shared
    do {
      try dispatcher.install(CUFFD_SIGSEGV)
      if !region.mayRunInFaultingThread {
        try helpers.start { [self] run, fault, permit in try answerHere(run, fault, permit) }
      }
    } catch {
      throw .cannotStart(error)
    }
    dispatcher.table.insert(region)
    open.wrappingAdd(1, ordering: .relaxed)
  }

  /// Ends the service of a region whose closing has begun. Threads that are being served go on to meet SIGSEGV.
  func close(_ region: Region) {
    holdingSignals { region.twin?.revoke() }
    helpers.announceClosing()
    SignalDispatcher.shared.table.remove(region)
    region.twin?.discard()
    open.wrappingSubtract(1, ordering: .relaxed)
  }

  /// Ends the helpers.
  func stop(nanoseconds: UInt64) { helpers.stop(nanoseconds: nanoseconds) }

  /// Does something that asks the provider: on the calling thread, unless it wants to be asked for one page at a time.
  func perform(for region: Region, _ work: @escaping @Sendable () -> Void) throws(FaultRuntimeError) {
    guard !region.mayRunInFaultingThread, !region.mayBlock else { return work() }
    guard !helpers.isOnSerialThread else { throw .prefetchFromProvider(region) }
    helpers.performSerially(work)
  }

  /// Fills a range on the calling thread, with the help of another where that pays.
  func prefetch(_ job: PrefetchJob) {
    guard let memory = job.region.twin else { return }
    let target = TwinTarget(memory: memory, isInHandler: false)
    job.runShared { [self] in
      $0.run(
        target, pageSize, retryDeadline: 0, forbidden: SignalDispatcher.shared.table, counting: counters)
    }
  }

  // MARK: Service, in the signal handler

  /// The kernel says no more than that there was no access.
  @inline(__always)
  func judge(_ fault: PendingFault, of region: Region) -> FaultVerdict {
    guard let memory = region.twin, !memory.isRevoked, memory.isInOwnerProcess else { return .somebodyElses }
    if fault.isWrite, !region.isWritable { return .somebodyElses }
    switch memory.state(at: fault.page) {
    case TwinMemory.PageState.absent: return .missing
    case TwinMemory.PageState.failed: return .somebodyElses
    default:
      // Another thread was faster; or the program has taken the access away itself, and would come back for ever.
      guard cuffd_signal_repeats(UInt64(fault.page)) < Self.repeatLimit else { return .somebodyElses }
      counters.countFault()
      counters.countRequests(-1)
      counters.countAlreadyPresent()
      return .isThere
    }
  }

  /// Benign races stay in single digits.
  private static var repeatLimit: UInt32 { 1000 }

  func fail(_ page: UInt, of region: Region, _ error: any Error) -> Bool {
    guard let memory = region.twin else { return false }
    return resolver.fail(page, of: region, error, TwinTarget(memory: memory, isInHandler: true))
  }

  @inline(__always)
  func answer(_ run: borrowing FaultRun, _ fault: PendingFault) throws {
    if run.region.mayRunInFaultingThread || helpers.isForCaller(run.region) { return try answerHere(run, fault) }
    if try !helpers.answer(run, fault) { counters.countRequests(-1) }
  }

  @inline(__always)
  private func answerHere(_ run: borrowing FaultRun, _ fault: PendingFault, _ permit: AnswerPermit? = nil) throws {
    guard let memory = run.region.twin else { throw ResolutionError.regionClosed }
    if memory.isBeyondBudget(run.range) { join(run, memory) }
    let wanted = run.region.offset(of: fault.page)
    do {
      try put(run, lastWanted: wanted, isWrite: fault.isWrite, memory, permit)
    } catch ResolutionError.refused(.outOfMemory) where memory.needsNeighbours(run.range) {
      // Others have used up the rest of the mappings.
      join(run, memory)
      try put(run, lastWanted: wanted, isWrite: fault.isWrite, memory, permit, isLastTry: true)
    }
  }

  @inline(__always)
  private func put(
    _ run: borrowing FaultRun, lastWanted: Int, isWrite: Bool, _ memory: TwinMemory, _ permit: AnswerPermit? = nil,
    isLastTry: Bool = false
  ) throws {
    try unsafe staging.withBytes(run.end - run.start) { stage in
      _ = unsafe try resolver.answer(
        run, lastWanted: lastWanted, isWrite: isWrite, stage: stage, forbidden: SignalDispatcher.shared.table,
        permit: permit, TwinTarget(memory: memory, isInHandler: true, isLastTry: isLastTry))
    }
  }

  /// Fills what lies between a run and the nearest open page, or else the nearest on the other side, so that opening the run adds
  /// no mapping. Where neither can be filled, the run is opened all the same as long as the kernel has mappings.
  @inline(never)
  private func join(_ run: borrowing FaultRun, _ memory: TwinMemory) {
    guard let gap = memory.gap(beside: run.range) else { return }
    if !saidLimit.exchange(true, ordering: .relaxed) { notices.say(Self.limitNotice) }
    if fill(gap, of: run.region, memory) { return }
    guard let other = memory.gap(beside: run.range, onlyBefore: !gap.isBefore) else { return }
    _ = fill(other, of: run.region, memory)
  }

  /// Begins at what is open. False where a page could not be had.
  private func fill(_ gap: MappingGap, of region: Region, _ memory: TwinMemory) -> Bool {
    var start = region.offset(of: gap.pages.start)
    var end = start + gap.pages.byteCount
    while start < end, !region.isClosing {
      let length = min(region.widestRequest, end - start)
      let piece = gap.isBefore ? start..<(start + length) : (end - length)..<end
      let part = FaultRun(region: region, from: piece.lowerBound, to: piece.upperBound)
      counters.countRequests()
      guard (try? put(part, lastWanted: part.end - pageSize.bytes, isWrite: false, memory)) != nil else { return false }
      if gap.isBefore { start += length } else { end -= length }
    }
    return true
  }
}
