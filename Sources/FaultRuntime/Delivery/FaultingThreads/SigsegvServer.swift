internal import CUFFD
internal import Synchronization

/// The delivery without a userfaultfd. A missing page has no access, so the kernel raises SIGSEGV in the thread that
/// touches it, and the provider runs in the signal handler. The page is filled through a second mapping, and opened
/// when it is complete. A provider that must not run in the signal handler is asked on the pool, while the thread
/// that faulted waits.
///
/// Nothing here allocates unless a page fails, or more than 64 requests are on the pool at the same time.
final class SigsegvServer: FaultingThreadServer, PoolServer, PrefetchFiller, DeliveryService {
  let counters = SharedCounters()
  let pool: ProviderPool
  let inFlight = RequestsInFlight(premade: 64)
  let pooled: DirectAnswering
  let pageSize: PageSize

  let staging: StagingPool
  private let notices: Notices
  private let saidLimit = Atomic<Bool>(false)
  /// The number of mappings that regions may use: shared by all runtimes, or for this one alone where a test sets a
  /// limit.
  private let budget: MappingBudget
  private let mayGuard: Bool

  private static let limitNotice = """
    the limit of mappings (vm.max_map_count) is near: to save them, faults now fill the pages up to their \
    neighbours as well; raise it, or use larger requests
    """

  init(
    configuration: FaultRuntimeConfiguration, pageSize: PageSize, pool: ProviderPool, notices: Notices
  ) throws(FaultRuntimeError) {
    do {
      staging = try StagingPool()
    } catch {
      throw .cannotStart(error)
    }
    self.pageSize = pageSize
    self.pool = pool
    self.notices = notices
    mayGuard = configuration.guardsPages
    budget = configuration.mappingLimit.map { MappingBudget(limit: $0) } ?? AddressSpace.ofThisProcess.mappings
    pooled = DirectAnswering(
      counters: counters, reporter: FailureReporter(configuration),
      resolveTimeout: configuration.resolveTimeout.clampedNanoseconds, wakes: false)
  }

  var signal: CInt { CUFFD_SIGSEGV }
  var delivery: Delivery { .sigsegv }
  var descriptor: DescriptorKind? { nil }
  var availableFeatures: UserfaultfdFeatures { [] }
  /// The size of a slot of staging memory. Faulting threads share these slots.
  var widestFault: Int { StagingPool.slotByteCount }
  var statistics: FaultStatistics { counters.statistics }
  let lazyMemory = SignalDispatcher.shared.served
  var resolveTimeout: UInt64 { pooled.resolveTimeout }

  /// Whether the serial thread of the pool asks the provider: it must not run on the faulting thread, and it either
  /// permits one request at a time or is one that the event loop would ask on a handler thread.
  func asksSerially(_ region: Region) -> Bool {
    !region.mayRunInFaultingThread && !(region.mayBlock && region.mayBeAskedConcurrently)
  }

  // MARK: Control, on any thread

  func makeMemory(
    byteCount: Int, alignment: Int, isWritable: Bool, pageSize: PageSize
  ) throws(HostCallError) -> any RegionMemory {
    let range = try AddressSpace.ofThisProcess.reserve(
      byteCount: byteCount, alignment: alignment, isWritable: isWritable)
    do throws(HostCallError) {
      return try TwinMemory(
        range, isWritable: isWritable, pageSize: pageSize, budget: budget, mayGuard: mayGuard)
    } catch {
      _ = cuffd_unmap(UInt64(range.start), range.byteCount)
      throw error
    }
  }

  func open(_ region: Region) throws(FaultRuntimeError) {
    if !region.mayRunInFaultingThread { try prepare(for: region) }
    try insert(region)
  }

  /// Ends the service of a region. A thread whose fault is being answered gets SIGSEGV when it goes on.
  func close(_ region: Region) {
    holdingSignals { region.withdraw { remove(region) } }
  }

  /// Fills a range on the calling thread, and a second thread helps where that is faster and the provider permits it.
  /// Where only the serial thread may ask the provider, that thread fills the range.
  func prefetch(_ region: Region, _ range: Range<Int>) throws(FaultRuntimeError) -> BulkFiller.Failure? {
    if asksSerially(region) { return try prefetchOnPool(region, range) }
    return withObjectMadeUnderHeldSignals({
      PrefetchJob(region: region, from: range.lowerBound, to: range.upperBound)
    }) { job in
      job.runShared(by: self)
      return job.failure
    }
  }

  func fill(_ job: PrefetchJob) {
    job.run(pageSize, resolveTimeout: 0, forbidden: lazyMemory, counting: counters)
  }

  func peek(_ job: PeekJob) throws(FaultRuntimeError) -> Bool {
    if asksSerially(job.region) { return try peekOnPool(job) }
    var staging = StagingBuffer()
    job.run(&staging, forbidden: nil)
    return true
  }

  // MARK: Service, in the signal handler

  /// Nothing tells this delivery of changes.
  @inline(__always)
  var hasChanges: Bool { false }

  /// Finds the cause from the state of the page, because the kernel only says that there was no access.
  @inline(__always)
  func judge(_ fault: PendingFault, of region: Region) -> FaultVerdict {
    let memory = TwinMemory.of(region)
    guard !memory.isRevoked, memory.isInOwnerProcess else { return .somebodyElses }
    if fault.isWrite, !memory.isWritable { return .somebodyElses }
    switch memory.state(at: fault.page) {
    case TwinMemory.PageState.absent: return .missing
    case TwinMemory.PageState.failed: return .somebodyElses
    default:
      // Either another thread was faster, or the page is being given back, or the program has taken the access away
      // itself. In the last case the access would fail again for ever, so the number of tries is limited.
      let repeats = cuffd_signal_repeats(UInt64(fault.page))
      guard repeats <= Self.repeatLimit else { return .somebodyElses }
      if repeats == Self.repeatLimit {
        switch memory.settledState(at: fault.page) {
        case TwinMemory.PageState.absent: return .missing
        case TwinMemory.PageState.failed: return .somebodyElses
        default: break
        }
      }
      counters.countFault()
      counters.countRequests(-1)
      counters.countAlreadyPresent()
      return .isThere
    }
  }

  /// The number of faults of one thread in a row on a page that is open, after which the thread waits once for changes
  /// of the page that are going on. Every further signal in the row is passed on. Threads that fill the same page cause
  /// fewer than ten.
  private static var repeatLimit: UInt32 { 1000 }

  func serve(_ fault: PendingFault, of region: Region, signal: CInt, _ nesting: FaultNesting) -> Bool {
    serveHere(fault, of: region, signal: signal, nesting)
  }

  func fail(_ page: UInt, of region: Region, _ error: any Error) -> Bool { pooled.fail(page, of: region, error) }

  @inline(__always)
  func answer(_ run: borrowing FaultRun, _ fault: PendingFault) throws {
    guard run.region.mayRunInFaultingThread || asksOnThisThread(run.region) else { return try waitForPool(run, fault) }
    let stage = unsafe try staging.borrow(run.end - run.start)
    defer { unsafe staging.giveBack(stage) }
    _ = unsafe try answer(
      run, lastWanted: run.region.offset(of: fault.page), isWrite: fault.isWrite, stage: stage.bytes, nil,
      .inSignalHandler)
  }

  // MARK: Providers that must not run in the signal handler

  /// Whether the faulting thread is one of the threads that ask the region's provider. Such a thread asks the
  /// provider itself and never waits for another thread, so there is no cycle of waits.
  private func asksOnThisThread(_ region: Region) -> Bool {
    asksSerially(region) ? pool.isOnSerialThread : pool.isOnPoolThread
  }

  /// Gives a run to the pool, and waits until the request has ended. The page is there then, or has failed, or the
  /// next touch asks for it again.
  ///
  /// - Throws: a ``ResolutionError`` with the code `regionClosed` where the memory was taken away before the request
  ///   ended.
  private func waitForPool(_ run: borrowing FaultRun, _ fault: PendingFault) throws {
    let region = run.region
    let memory = TwinMemory.of(region)
    // The caller has counted a request, but the pool counts its own.
    counters.countRequests(-1)
    let ticket = inFlight.admit(
      fault, of: run, submit: { pool.submit(.demand($0, region, self)) },
      resubmit: { pool.submit(.prefetch($0, self)) })
    guard let ticket else { return counters.countAlreadyPresent() }
    while !inFlight.wait(for: ticket, nanoseconds: Self.lookNanoseconds) {
      if memory.isRevoked { throw ResolutionError.regionClosed }
    }
  }

  /// The time after which a waiting thread checks again whether its region has been closed, in nanoseconds.
  private static let lookNanoseconds: UInt64 = 50_000_000

  func answerOnPool(
    _ run: borrowing FaultRun, lastWanted: Int, isWrite: Bool, stage: UnsafeMutableRawBufferPointer,
    _ permit: AnswerPermit
  ) throws -> Int {
    unsafe try answer(run, lastWanted: lastWanted, isWrite: isWrite, stage: stage, permit, .usual)
  }

  // MARK: Opening pages near the limit of mappings

  @inline(__always)
  private func answer(
    _ run: borrowing FaultRun, lastWanted: Int, isWrite: Bool, stage: UnsafeMutableRawBufferPointer,
    _ permit: AnswerPermit?, _ effort: PlacingEffort
  ) throws -> Int {
    // The memory is looked up each time, so that no reference is held while the provider runs.
    if TwinMemory.of(run.region).isBeyondBudget(run.range) { join(run, TwinMemory.of(run.region), effort) }
    do {
      return try unsafe put(run, lastWanted, isWrite, stage, permit, effort)
    } catch let error as ResolutionError
      where error == .refused(.noMemory) && TwinMemory.of(run.region).needsNeighbours(run.range)
    {
      // Other code has used up the rest of the mappings.
      join(run, TwinMemory.of(run.region), effort)
      return try unsafe put(run, lastWanted, isWrite, stage, permit, effort.union(.lastTry))
    }
  }

  @inline(__always)
  private func put(
    _ run: borrowing FaultRun, _ lastWanted: Int, _ isWrite: Bool, _ stage: UnsafeMutableRawBufferPointer,
    _ permit: AnswerPermit?, _ effort: PlacingEffort
  ) throws -> Int {
    try unsafe pooled.answer(
      run, lastWanted: lastWanted, isWrite: isWrite, stage: stage, forbidden: lazyMemory,
      permit: permit, effort: effort, in: { TwinMemory.of($0) })
  }

  /// Fills the pages between a run and the nearest open page, so that opening the run adds no mapping. If they cannot
  /// be filled, the pages up to the nearest open page on the other side are filled. If neither side can be filled,
  /// the run is opened all the same, as long as the kernel has mappings.
  @inline(never)
  private func join(_ run: borrowing FaultRun, _ memory: TwinMemory, _ effort: PlacingEffort) {
    guard let gap = memory.gap(beside: run.range) else { return }
    // A thread that answers on a small alternate stack leaves the notice to another one.
    if cuffd_stack_room() >= StackNeed.ofHook, !saidLimit.exchange(true, ordering: .relaxed) {
      notices.say(Self.limitNotice)
    }
    if fill(gap, of: run.region, effort) { return }
    guard let other = memory.gap(beside: run.range, onlyBefore: !gap.isBefore) else { return }
    _ = fill(other, of: run.region, effort)
  }

  /// Fills a gap, beginning at the page that is open. Returns false where a page could not be produced.
  private func fill(_ gap: MappingGap, of region: Region, _ effort: PlacingEffort) -> Bool {
    var start = region.offset(of: gap.pages.start)
    var end = start + gap.pages.byteCount
    while start < end, !region.isClosing {
      let length = min(region.widestRequest, end - start)
      let piece = gap.isBefore ? start..<(start + length) : (end - length)..<end
      let part = FaultRun(region: region, from: piece.lowerBound, to: piece.upperBound)
      counters.countRequests()
      guard let stage = try? unsafe staging.borrow(length) else { return false }
      defer { unsafe staging.giveBack(stage) }
      let filled = try? unsafe put(part, part.end - pageSize.bytes, false, stage.bytes, nil, effort)
      guard filled != nil else { return false }
      if gap.isBefore { start += length } else { end -= length }
    }
    return true
  }
}

extension TwinMemory {
  /// Returns the memory of a region that this delivery serves.
  @inline(__always)
  static func of(_ region: Region) -> TwinMemory {
    // The cast is safe, because this delivery makes the memory of all its regions.
    unsafe unsafeDowncast(region.memory, to: TwinMemory.self)
  }
}
