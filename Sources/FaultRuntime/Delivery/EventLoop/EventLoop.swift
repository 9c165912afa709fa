internal import CUFFD
internal import Synchronization

/// A handler: a userfaultfd of its own, and one thread at a time that serves its faults (``FaultService``).
///
/// Regions are dealt out to handlers, so a region's faults are all served by one thread: nothing about a fault needs a lock.
final class EventLoop: PoolServer, FillCounter {
  let userfaultfd: SharedUserfaultfd
  let table: RegionTable<Region>
  let pageSize: PageSize
  let counters = HandlerCounters()
  let inFlight = RequestsInFlight()
  let pooled: DirectAnswering
  let pool: ProviderPool
  let reporter: FailureReporter
  /// How long the kernel may ask for another try, in nanoseconds.
  let retryDeadline: UInt64
  /// How often a resolution that gets `EAGAIN` reads on and tries again at once, before it is put off for a millisecond.
  let immediateRetries: Int

  let events: EventReporter
  let ownThreads: OwnThreads
  /// The thread that serves, as the kernel numbers it.
  private let server = Atomic<UInt32>(0)
  /// What the provider is asked for on that thread.
  private let askedAddress = Atomic<UInt>(0)
  private let askedByteCount = Atomic<Int>(0)
  let explainsFailures: Bool

  /// Which of the runtime's handlers this is.
  let number: Int
  private let regions = Atomic<Int>(0)
  let batchCapacity: Int
  let epoll: Epoll
  let closeDeadline: UInt64
  private let wakeup: WakeDescriptor
  /// The ordinary one, and the following one where the placement may need it.
  private let threads = Monitor<[FaultThread]>([])
  /// Which of the threads serves.
  private let baton = Monitor(HandlerRole.ordinary)
  private let box = ServiceBox()
  private let control = Monitor(Control())

  /// What other threads ask of the handler; it looks here when its eventfd says so.
  struct Control: Sendable {
    var isStopping = false
    /// Signalled when every message that was queued before has been served.
    var drains: [OneShotEvent] = []
    var prefetches: [PrefetchJob] = []
    var peeks: [PeekJob] = []
  }

  enum Token {
    static let faults: UInt32 = 0
    static let wakeup: UInt32 = 1
  }

  /// Opens a descriptor and starts the thread.
  init(
    configuration: FaultRuntimeConfiguration, table: RegionTable<Region>, pageSize: PageSize, pool: ProviderPool,
    number: Int
  ) throws(FaultRuntimeError) {
    do {
      userfaultfd = SharedUserfaultfd(
        try Userfaultfd.open(
          configuration.handlerKinds, wanting: Self.wantedFeatures(configuration),
          without: configuration.withheldFeatures))
    } catch {
      throw .unavailable(error)
    }
    reporter = FailureReporter(configuration)
    retryDeadline = configuration.resolveTimeout.clampedNanoseconds
    pooled = DirectAnswering(counters: SharedCounters(), reporter: reporter, retryDeadline: retryDeadline, wakes: true)
    self.pool = pool
    ownThreads = pool.ownThreads
    events = EventReporter(table: table, onEvent: configuration.onEvent)
    explainsFailures = configuration.explainsFailures
    self.table = table
    self.number = number
    self.pageSize = pageSize
    immediateRetries = configuration.immediateRetries
    closeDeadline = configuration.closeTimeout.clampedNanoseconds
    batchCapacity = configuration.batchCapacity
    do {
      epoll = try Epoll()
      wakeup = try WakeDescriptor()
      try epoll.watch(userfaultfd.uffd.descriptor, token: Token.faults)
      try epoll.watch(wakeup.descriptor, token: Token.wakeup)
      let started = try FaultThread(name: "fault-handler\(number)", stackByteCount: Self.stackByteCount) { [self] in
        box.put(FaultService(self, configuration: configuration))
        run(as: .ordinary)
      }
      threads.withLock { $0.append(started) }
      // Now, because starting a thread allocates, and the path of a fault must not.
      if HandlerPlacer.mayFollow(configuration.placement, knowsThreads: userfaultfd.uffd.enabled.contains(.threadID)) {
        _ = startFollower()
      }
    } catch {
      throw .cannotStart(error)
    }
  }

  /// Without the events moved memory would read as zero, and closing would hit what lies in the place of unmapped memory.
  private static func wantedFeatures(_ configuration: FaultRuntimeConfiguration) -> UserfaultfdFeatures {
    var wanted: UserfaultfdFeatures = [.poison, .threadID, .eventRemap, .eventUnmap]
    if configuration.onEvent != nil { wanted.insert(.eventRemove) }
    return wanted.union(configuration.additionalFeatures)
  }

  /// Virtual; a provider decides how much of it becomes memory.
  private static let stackByteCount = 1 << 20

  var isOnHandlerThread: Bool {
    threads.withLock { $0.contains { $0.isCurrent } }
  }

  // MARK: Control, on any thread

  /// Regions that have been dealt to this handler and not ended.
  var regionCount: Int { regions.load(ordering: .relaxed) }
  func regionBegins() { regions.wrappingAdd(1, ordering: .relaxed) }
  func regionEnded() { regions.wrappingSubtract(1, ordering: .relaxed) }

  /// Waits until the handler has served everything that was queued, or until the deadline.
  func drain() {
    guard !isOnHandlerThread else { return }
    let drained = OneShotEvent()
    ask { $0.drains.append(drained) }
    _ = drained.wait(nanoseconds: closeDeadline)
  }

  /// Has the handler do something; it looks for it when its eventfd says so.
  func ask(_ wish: (inout Control) -> Void) {
    control.withLock(wish)
    wakeup.signal()
  }

  /// What the handler and the pool have done.
  var statistics: FaultStatistics {
    var sum = counters.statistics
    sum.add(pooled.counters.statistics)
    return sum
  }

  /// Ends the threads. Every region has been closed before.
  func stop() {
    ask { $0.isStopping = true }
    // The ordinary thread comes first and may start the other one until it ends.
    var index = 0
    while let thread = threads.withLock({ index < $0.count ? $0[index] : nil }) {
      if thread.isCurrent { thread.detach() } else { thread.join() }
      index += 1
    }
  }

  // MARK: What the watchdog looks at

  /// The thread that serves.
  var servingThread: UInt32 { server.load(ordering: .relaxed) }

  /// Changes with everything that is done.
  var progress: Int {
    let statistics = counters.statistics
    return statistics.batches &+ statistics.requests
  }

  /// Whether the thread that serves sleeps in a fault. Where the kernel does not tell: whether it may.
  var waitsInFault: Bool { cuffd_thread_waits_in_fault(servingThread) != 0 }

  /// What the provider was asked for last on that thread.
  var asking: (region: Region, range: Range<Int>)? {
    let address = askedAddress.load(ordering: .relaxed)
    guard let region = table.region(containing: address) else { return nil }
    let start = region.offset(of: address)
    return (region, start..<(start + askedByteCount.load(ordering: .relaxed)))
  }

  // MARK: What the rest of the service asks

  var uffd: Userfaultfd {
    @inline(__always) _read { yield userfaultfd.uffd }
  }

  var lazyMemory: AddressTable { table }

  /// No provider needs that here: a handler asks one provider at a time, and the pool keeps to what a provider permits.
  func asksSerially(_ region: Region) -> Bool { false }

  @inline(__always)
  func countBytesFilled(_ amount: Int) { counters.countBytesFilled(amount) }

  func answerOnPool(
    _ run: borrowing FaultRun, lastWanted: Int, isWrite: Bool, stage: UnsafeMutableRawBufferPointer,
    _ permit: AnswerPermit
  ) throws -> Int {
    unsafe try pooled.answer(
      run, lastWanted: lastWanted, isWrite: isWrite, stage: stage, forbidden: table, permit: permit,
      in: AnonymousMemory.of(run.region))
  }

  /// The provider is about to be asked for this on the serving thread.
  @inline(__always)
  func note(_ range: AddressRange) {
    askedAddress.store(range.start, ordering: .relaxed)
    askedByteCount.store(range.byteCount, ordering: .relaxed)
  }

  // MARK: Service, on the handler's threads

  private func run(as role: HandlerRole) {
    ownThreads.addCaller()
    defer { ownThreads.removeCaller() }
    var isInClass = role == .ordinary
    while true {
      // For ever, like a handler that waits for a fault.
      _ = baton.wait { $0 == role ? true : nil }
      guard var service = box.take() else { return }
      server.store(cuffd_thread_id(), ordering: .relaxed)
      // Only now: who never had anything to do ends in the usual class, and is not waited for.
      if !isInClass { isInClass = cuffd_run_when_idle() == 0 }
      if !isInClass {
        service.giveUpIdle()
        box.put(service)
        pass(to: .ordinary)
        continue
      }
      switch service.run() {
      case .stop:
        // The other one finds nothing in the box, and ends.
        pass(to: role == .ordinary ? .following : .ordinary)
        return
      case .handOver(let next):
        if next == .following, !startFollower() {
          service.giveUpIdle()
          box.put(service)
        } else {
          counters.countHandover()
          box.put(service)
          pass(to: next)
        }
      }
    }
  }

  private func pass(to role: HandlerRole) {
    baton.withLock { $0 = role }
    baton.announce()
  }

  private func startFollower() -> Bool {
    threads.withLock { threads in
      if threads.count > 1 { return true }
      guard let started = try? startThread("fault-follower\(number)", .following) else { return false }
      threads.append(started)
      return true
    }
  }

  private func startThread(_ name: String, _ role: HandlerRole) throws(HostCallError) -> FaultThread {
    try FaultThread(name: name, stackByteCount: Self.stackByteCount) { [self] in run(as: role) }
  }

  /// What other threads have asked for since the last call.
  func takeWishes() -> Control {
    wakeup.clear()
    return control.withLock { control in
      defer {
        control.drains = []
        control.prefetches = []
        control.peeks = []
      }
      return control
    }
  }
}

// Safe to share: whoever holds the baton is the only one who touches it.
/// Where the service is while the baton changes hands.
private final class ServiceBox: @unchecked Sendable {
  private var service: FaultService?

  func take() -> FaultService? {
    let taken = service.take()
    return taken
  }

  func put(_ service: consuming FaultService) { self.service = consume service }
}
