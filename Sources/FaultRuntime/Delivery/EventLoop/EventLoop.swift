internal import CUFFD
internal import Synchronization

/// A handler of the event loop: it has a userfaultfd of its own, and one thread at a time serves its faults
/// (``FaultService``).
///
/// Each region belongs to one handler. All faults of a region are therefore served by one thread, and a fault needs no
/// lock where that thread asks the provider itself. Only requests to the pool need one.
final class EventLoop: PoolServer, FillCounter {
  let userfaultfd: SharedUserfaultfd
  let table = AddressSpace.ofThisProcess.regions
  /// The regions of all handlers of the runtime. A provider must not lend their memory.
  let lazyMemory: RegionGroup
  let pageSize: PageSize
  let counters = HandlerCounters()
  let inFlight = RequestsInFlight()
  let pooled: DirectAnswering
  let pool: ProviderPool
  let watchdog: Watchdog
  let reporter: FailureReporter
  /// How long the kernel may ask for another try, in nanoseconds.
  let resolveTimeout: UInt64
  /// How often the handler reads on and tries again at once when a resolution gets `EAGAIN`. After that the
  /// resolution is put off for a millisecond.
  let immediateRetries: Int

  let events: EventReporter
  let ownThreads: OwnThreads
  /// The kernel's number of the thread that serves; 0 until one has begun.
  private let server = Atomic<UInt32>(0)
  /// The range that the serving thread asked a provider for last.
  private let askedAddress = Atomic<UInt>(0)
  private let askedByteCount = Atomic<Int>(0)

  /// The number of this handler among those of the runtime.
  let number: Int
  private let regions = Atomic<Int>(0)
  /// The closed regions whose memory could not be taken away. Their faults are served until the handler ends.
  let leftBehind = Monitor<[Region]>([])
  let batchCapacity: Int
  let epoll: Epoll
  let closeTimeout: UInt64
  private let wakeup: WakeDescriptor
  /// The ordinary thread, and behind it the following thread, if the placement has needed one.
  private let threads = Monitor<[FaultThread]>([])
  /// The role of the thread that serves, or that has to begin.
  private let baton = Monitor(HandlerRole.ordinary)
  private let box = ServiceBox()
  private let control = Monitor(Control())

  /// What other threads ask of the handler. The handler looks here when its eventfd is signalled.
  struct Control: Sendable {
    var isStopping = false
    /// Each event is signalled when all messages that were queued before it have been served.
    var drains: [OneShotEvent] = []
    var prefetches: [PrefetchJob] = []
    var peeks: [PeekJob] = []
  }

  enum Token {
    static let faults: UInt32 = 0
    static let wakeup: UInt32 = 1
  }

  /// Opens a userfaultfd, and starts the ordinary thread and, where the placement may need it, the following one.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `userfaultfdUnavailable` where no userfaultfd can be opened, and
  ///   `cannotStart` where another descriptor or a thread cannot be made.
  init(
    configuration: FaultRuntimeConfiguration, pageSize: PageSize, pool: ProviderPool, watchdog: Watchdog, number: Int
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
    resolveTimeout = configuration.resolveTimeout.clampedNanoseconds
    pooled = DirectAnswering(
      counters: SharedCounters(), reporter: reporter, resolveTimeout: resolveTimeout, wakes: true)
    self.pool = pool
    self.watchdog = watchdog
    ownThreads = pool.ownThreads
    lazyMemory = RegionGroup(table: table, id: ObjectIdentifier(pool))
    events = EventReporter(table: table, userfaultfd: userfaultfd, onEvent: configuration.onEvent)
    self.number = number
    self.pageSize = pageSize
    immediateRetries = configuration.immediateRetries
    closeTimeout = configuration.closeTimeout.clampedNanoseconds
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
      // The second thread is started here, because starting a thread allocates and the path of a fault must not
      // allocate.
      if HandlerPlacer.mayFollow(configuration.placement, knowsThreads: userfaultfd.uffd.enabled.contains(.threadID)) {
        _ = startFollower()
      }
    } catch {
      throw .cannotStart(error)
    }
  }

  /// Returns the features that the handler needs. Without the events, memory that the program has moved would read as
  /// zero, and closing a region would unmap whatever lies in the place of memory that the program has unmapped.
  private static func wantedFeatures(_ configuration: FaultRuntimeConfiguration) -> UserfaultfdFeatures {
    var wanted: UserfaultfdFeatures = [.poison, .threadID, .eventRemap, .eventUnmap]
    if configuration.onEvent != nil { wanted.insert(.eventRemove) }
    return wanted.union(configuration.additionalFeatures)
  }

  /// The size of a handler thread's stack. It is address space, of which only the part that a provider uses becomes
  /// memory.
  private static let stackByteCount = 1 << 20

  var isOnHandlerThread: Bool {
    threads.withLock { $0.contains { $0.isCurrent } }
  }

  // MARK: Control, on any thread

  /// The number of regions that have been given to this handler and have not ended.
  var regionCount: Int { regions.load(ordering: .relaxed) }
  func regionBegins() { regions.wrappingAdd(1, ordering: .relaxed) }
  func regionEnded() { regions.wrappingSubtract(1, ordering: .relaxed) }

  /// Waits until the handler has served all messages that are queued now, or until the time is up. Does nothing on a
  /// handler thread. Returns whether all messages have been served.
  @discardableResult
  func drain(nanoseconds: UInt64) -> Bool {
    guard !isOnHandlerThread else { return false }
    return withObjectMadeUnderHeldSignals({ OneShotEvent() }) { drained in
      ask { $0.drains.append(drained) }
      return drained.wait(nanoseconds: nanoseconds)
    }
  }

  /// Changes what is asked of the handler, and wakes it.
  func ask(_ wish: (inout Control) -> Void) {
    control.withLock(wish)
    wakeup.signal()
  }

  /// The work that the handler and, for its regions, the pool have done.
  var statistics: FaultStatistics {
    var sum = counters.statistics
    sum.add(pooled.counters.statistics)
    return sum
  }

  /// Whether the memory of closed regions could not be taken away.
  var hasLeftBehind: Bool { leftBehind.withLock { !$0.isEmpty } }

  /// The memory that closing could not take away, while the thread that ends the runtime unmaps it.
  final class Removal {
    fileprivate var regions: [Region]
    fileprivate let drained = OneShotEvent()

    fileprivate init(_ regions: [Region]) { self.regions = regions }
  }

  /// Begins to unmap the memory that closing could not take away. The handler drops its references to the regions.
  func beginRemovingLeftBehind() -> Removal {
    // A mapping that loses an end is not divided, as one that loses its middle is, so this order costs no mapping.
    let removal = Removal(
      leftBehind.withLock { regions in
        defer { regions = [] }
        return regions.sorted { $0.range.start < $1.range.start }
      })
    for region in removal.regions { table.remove(region) }
    let drained = removal.drained
    ask { $0.drains.append(drained) }
    return removal
  }

  /// Unmaps the memory, and returns whether all of it has gone. This waits until the handler has read the event that
  /// the kernel reports, so it has to happen while the handler serves, and on another thread.
  ///
  /// Memory stays where the kernel refuses to unmap it (`mseal(2)`, a filter of system calls), and where a thread of
  /// the handler or of the pool is stuck and still holds the region. Its missing pages need the handler for as long
  /// as the process lives.
  func finishRemoving(_ removal: Removal, within timeout: SharedTimeout) -> Bool {
    let isDrained = !isOnHandlerThread && removal.drained.wait(nanoseconds: timeout.remaining)
    var staying: [Region] = []
    while !removal.regions.isEmpty {
      var region = removal.regions.removeFirst()
      events.forget(region)
      if isDrained, isKnownUniquelyReferenced(&region), AnonymousMemory.of(region).unmap() { continue }
      staying.append(region)
    }
    // Where another region has come into a hole of this one, the handler takes faults of this one for strays.
    for region in staying { _ = table.insertIfFree(region) }
    let isGone = staying.isEmpty
    leftBehind.withLock { $0 = staying }
    return isGone
  }

  /// Makes the threads end, without waiting for them. Every region has to be closed before.
  func beginStopping() { ask { $0.isStopping = true } }

  /// Waits until the threads have ended, or until the time is up: a thread in a provider that does not return is left
  /// to itself, and ends when the provider returns.
  func finishStopping(within timeout: SharedTimeout) {
    // The ordinary thread is the first one. It may start the second thread until it ends, so the list is read again
    // each time.
    var index = 0
    while let thread = threads.withLock({ index < $0.count ? $0[index] : nil }) {
      thread.end(nanoseconds: timeout.remaining)
      index += 1
    }
    // The regions hold this object.
    events.forgetAll()
  }

  /// Returns the region of this handler whose memory is at `address` now, even if the program has moved it there.
  func region(at address: UInt) -> Region? {
    if let region = table.region(containing: address), region.server === self { return region }
    return events.moved(to: address)?.region
  }

  // MARK: What the watchdog looks at

  /// The kernel's number of the thread that serves; 0 until one has begun.
  var servingThread: UInt32 { server.load(ordering: .relaxed) }

  /// A number that changes with each read and each request of the handler.
  var progress: Int {
    let statistics = counters.statistics
    return statistics.batches &+ statistics.requests
  }

  /// Whether the serving thread sleeps until a message is read that only it would read: in a fault, or in a system call
  /// that changes lazy memory, such as `madvise(2)`. If the kernel does not say, the value is true, because the thread
  /// may be sleeping in one.
  var waitsForMessage: Bool {
    cuffd_thread_waits_in_fault(servingThread) != 0 || cuffd_thread_waits_for_event(servingThread) == 1
  }

  /// The region and the range that the serving thread asked a provider for last; nil if the region has ended.
  var asking: (region: Region, range: Range<Int>)? {
    let address = askedAddress.load(ordering: .relaxed)
    guard let region = region(at: address) else { return nil }
    let start = region.offset(of: address)
    return (region, start..<(start + askedByteCount.load(ordering: .relaxed)))
  }

  // MARK: What the rest of the service asks

  var uffd: Userfaultfd {
    @inline(__always) _read { yield userfaultfd.uffd }
  }

  /// Always false: a handler asks one provider at a time, and the pool keeps to what each provider permits.
  func asksSerially(_ region: Region) -> Bool { false }

  @inline(__always)
  func countBytesFilled(_ amount: Int) { counters.countBytesFilled(amount) }

  func answerOnPool(
    _ run: borrowing FaultRun, lastWanted: Int, isWrite: Bool, stage: UnsafeMutableRawBufferPointer,
    _ permit: AnswerPermit
  ) throws -> Int {
    unsafe try pooled.answer(
      run, lastWanted: lastWanted, isWrite: isWrite, stage: stage, forbidden: lazyMemory, permit: permit,
      in: { AnonymousMemory.of($0) })
  }

  /// Notes the range that the serving thread is about to ask a provider for.
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
      // This wait has no time limit, just as the wait for a fault has none.
      _ = baton.wait { $0 == role ? true : nil }
      guard var service = box.take() else { return }
      server.store(cuffd_thread_id(), ordering: .relaxed)
      // The following thread enters `SCHED_IDLE` only when it begins to serve. If it never serves, it ends in the
      // usual class, where joining it does not have to wait for an idle CPU.
      if !isInClass { isInClass = cuffd_run_when_idle() == 0 }
      if !isInClass {
        service.giveUpIdle()
        box.put(service)
        pass(to: .ordinary)
        continue
      }
      switch service.run() {
      case .stop:
        // The other thread finds the box empty, and ends.
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

  /// Returns what other threads have asked for since the last call.
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

// Safe to share: only the thread whose role is in `baton` uses the box.
/// Holds the service while the threads of a handler change places.
private final class ServiceBox: @unchecked Sendable {
  private var service: FaultService?

  func take() -> FaultService? {
    let taken = service.take()
    return taken
  }

  func put(_ service: consuming FaultService) { self.service = consume service }
}
