internal import CUFFD
internal import Synchronization

/// The threads on which the runtime asks providers that may block. They are started when the first region that needs
/// them is opened, because starting a thread allocates and the path of a fault must not allocate. Later the pool
/// starts threads only where calls of providers hold up others, and where all of its threads may come to wait in
/// faults. Such threads end when they are not needed any more.
///
/// Demand goes before prefetch. A thread takes a task of a region only while fewer than `threadLimit - 1` threads work
/// for that region. Prefetches, counted over all regions, also occupy at most `threadLimit - 1` threads. Where
/// `threadLimit` is 1, the one thread does everything.
///
/// No call of a provider holds up other regions for long, whether it returns or not. A call counts against the limits
/// for `PoolLimits.patience`, as far as a region is concerned that has no thread at all; such a region then gets a
/// thread that is started for it (``PoolKeeper``). For regions that have a thread, a call counts for
/// `PoolLimits.stuckAfter`. So there are at most `threadLimit` threads, and one for each call that lasts so long.
///
/// A provider that does not permit concurrent requests is asked by one thread at a time, whether for a fault, a
/// prefetch or a peek. Some deliveries have such providers asked on a serial thread, which is not counted in
/// `threadLimit` and does nothing else. There is one serial thread. While a call holds it up, further ones are started,
/// so that up to `threadLimit` serial calls are under way that have not lasted for long.
final class ProviderPool: Sendable {
  private let state: Monitor<PoolState>
  private let keeper: PoolKeeper
  /// The number of calls that were given up with which a region is too many calls behind, so that its requests fail. It
  /// is 0 where one is too many because no thread can be started.
  private let refusesFrom = Atomic<Int>(PoolLimits.givenUp)

  private static let stackByteCount = 1 << 20
  /// How long a thread that is not needed waits for a task before it ends, in nanoseconds.
  private static let linger: UInt64 = 1_000_000_000

  /// The kernel's numbers of the pool's threads and of the handler threads.
  let ownThreads: OwnThreads

  init(limits: PoolLimits, ownThreads: OwnThreads) {
    state = Monitor(PoolState(limits), holdsSignals: true)
    keeper = PoolKeeper(patience: limits.patience)
    self.ownThreads = ownThreads
  }

  /// The role (`cuffd_thread_role`) of the pool's threads: the address of the pool, which is even. The serial threads
  /// have this number plus one.
  private var role: UInt64 { unsafe UInt64(UInt(bitPattern: Unmanaged.passUnretained(self).toOpaque())) }

  /// Whether the caller is a thread of the pool. Takes no lock, because signal handlers ask this as well.
  var isOnPoolThread: Bool { cuffd_thread_role() & ~1 == role }

  /// Whether the caller is a serial thread of the pool.
  var isOnSerialThread: Bool { cuffd_thread_role() == role | 1 }

  /// Whether every thread of the pool sleeps in a fault, so that none is left to answer one. Where the kernel does
  /// not say whether a thread sleeps, a thread counts if it has come to wait in a fault since it began its task.
  var allWaitInFaults: Bool {
    let threads = state.withLock { state in
      state.slots.filter { !$0.isVacant && $0.givenUp == nil }.map { (number: $0.number, waits: $0.waitsInFault) }
    }
    return threads.allSatisfy { $0.waits && cuffd_thread_waits_in_fault($0.number) != 0 }
  }

  // MARK: Tasks

  /// The number of prefetches that wait for a thread. Tests wait for it.
  var queuedPrefetches: Int { state.withLock { $0.prefetch.count } }

  /// The number of threads that have not ended, without the keeper.
  var threadCount: Int { state.withLock { $0.slots.count { !$0.isVacant } } }

  func submit(_ task: PoolTask) {
    let isForAny = state.withLock { state in
      // The pool stops after the last region has ended, so no thread waits for this fault any more. The task would
      // only keep the pool alive.
      if state.isStopping, case .demand = task { return false }
      state.add(task)
      if !state.hasIdle(isSerial: task.isSerial) { keep(&state) }
      return !state.hasSerial
    }
    if isForAny { state.announceToOne() } else { state.announce() }
  }

  /// Returns the error with which a request for a region has to fail at once, because too many calls of its provider
  /// have not returned; nil where the request may be submitted. Takes no lock.
  func refusal(of region: Region) -> ResolutionError? {
    let calls = region.calls.givenUp
    let bound = refusesFrom.load(ordering: .relaxed)
    guard calls > 0, calls >= bound else { return nil }
    return bound == 0 ? .providerStuckWithoutThreads(callCount: calls) : .providerStuck(callCount: calls)
  }

  /// Removes and returns the prefetches that have waited for a thread for longer than their region's timeout.
  func withdrawOverdue() -> [(job: PoolPrefetch, server: any PoolServer)] {
    state.withLock { state in
      let now = cuffd_monotonic_nanoseconds()
      return state.removePrefetches { $0.isOverdue(at: now) }
    }
  }

  /// Notes that a request was given up. If a thread of the pool is working on it, another thread is started in place
  /// of that one. If the request still waits for a thread, it is dropped.
  func giveUp(_ request: PoolRequest) { giveUp { $0.isFor(request) } }

  func giveUp(_ job: PeekJob) { giveUp { $0.isFor(job) } }

  private func giveUp(_ isMeant: (PoolTask) -> Bool) {
    let isUnderWay = state.withLock { state -> Bool in
      guard let index = state.slots.firstIndex(where: { $0.task.map(isMeant) ?? false }) else {
        state.removeDemand(where: isMeant)
        return false
      }
      state.giveUp(index)
      state.isReplacing = true
      return true
    }
    guard isUnderWay else { return }
    replace()
    state.announce()
  }

  // MARK: Threads

  /// Starts the threads, unless they have been started already.
  ///
  /// - Parameter serially: whether the serial thread is needed as well.
  /// - Throws: a ``HostCallError`` where a thread cannot be started and the pool has no thread at all, or no serial
  ///   thread although it is needed, or no keeper. Tasks that were submitted would then never run.
  func prepare(serially: Bool = false) throws(HostCallError) {
    try keeper.start { [self] in look() }
    if serially { _ = try start(isSerial: true) }
    do throws(HostCallError) {
      while try start(isSerial: false) {}
    } catch {
      // Fewer threads than the limit can still do the work.
      if state.withLock({ $0.available(isSerial: false) == 0 }) { throw error }
    }
  }

  /// Notes that `asker`, a thread of the runtime's own, waits in a fault that the pool has to answer. One more thread
  /// is started where it is needed, because otherwise all of them might end up waiting in faults, with none left to
  /// answer.
  func addThread(for asker: UInt32) {
    if state.withLock({ $0.noteWait(of: asker) }) { replace() }
    state.announce()
  }

  /// Ends the threads, each when its provider has returned. Blocks for at most `nanoseconds` in total; threads that
  /// have not ended by then are detached and end by themselves.
  func stop(nanoseconds: UInt64) {
    let slots = state.withLock { state in
      state.isStopping = true
      return state.slots
    }
    state.announce()
    let timeout = SharedTimeout(nanoseconds: nanoseconds)
    keeper.stop(nanoseconds: timeout.remaining)
    for slot in slots {
      // A thread whose task was given up is stuck, so it is joined only if it has ended already.
      slot.thread.end(nanoseconds: slot.givenUp == nil ? timeout.remaining : 0)
    }
  }

  /// Starts a thread in place of one that is not available any more. If none can be started, the other threads take
  /// over.
  private func replace() { _ = try? start(isSerial: false) }

  /// Makes known to faults, which take no lock for it, from which number of calls on a region is refused.
  private func publish(_ state: borrowing PoolState) {
    refusesFrom.store(state.isShort ? 0 : state.bound, ordering: .relaxed)
  }

  /// Starts one more thread of a kind. Returns false where there are enough, or where the pool stops.
  ///
  /// - Parameter isUrgent: whether a region that has no thread needs this one, so that there are never enough.
  private func start(isSerial: Bool, isUrgent: Bool = false) throws(HostCallError) -> Bool {
    var hasStarted = false
    let failure = state.withLock { state -> HostCallError? in
      guard !state.isStopping else { return nil }
      if !isSerial { state.isReplacing = false }
      guard isUrgent || state.available(isSerial: isSerial) < state.wanted(isSerial: isSerial) else {
        if !isSerial { state.isShort = false }
        publish(state)
        return nil
      }
      let index = state.slots.firstIndex { $0.isVacant } ?? state.slots.count
      do throws(HostCallError) {
        let name = isSerial ? "fault-serial" : "fault-pool\(index)"
        let thread = try FaultThread(name: name, stackByteCount: Self.stackByteCount) { [self] in
          cuffd_thread_set_role(isSerial ? role | 1 : role)
          ownThreads.addCaller()
          self.state.withLock { $0.slots[index].number = cuffd_thread_id() }
          var worker = PoolWorker()
          while let task = next(index) { worker.run(task) }
          ownThreads.removeCaller()
        }
        // The earlier thread of this slot has ended, and no thread has to join it.
        if index < state.slots.count { state.slots[index].thread.detach() }
        state.add(PoolState.Slot(thread: thread, isSerial: isSerial), at: index)
        state.isShort = false
        publish(state)
        hasStarted = true
        return nil
      } catch {
        state.isShort = true
        publish(state)
        return error
      }
    }
    if let failure { throw failure }
    return hasStarted
  }

  /// What an idle thread does next.
  private enum Step {
    case run(PoolTask, wakesOthers: Bool)
    case linger, end
  }

  /// Waits for the next task of a thread, and returns it; returns nil where the thread shall end.
  private func next(_ index: Int) -> PoolTask? {
    var step = state.wait { self.step(&$0, index) ?? ($0.isSurplus(index) ? .linger : nil) }
    if case .linger = step {
      step = state.wait(nanoseconds: Self.linger) { self.step(&$0, index) }
      if step == nil { return state.withLock { $0.retire(index) } ? nil : next(index) }
    }
    guard case .run(let task, let wakesOthers) = step else { return nil }
    if wakesOthers { state.announce() }
    return task
  }

  /// Ends the last task of a thread, if it has not been ended yet, and takes the next one; returns nil where the thread
  /// has to wait.
  private func step(_ state: inout PoolState, _ index: Int) -> Step? {
    let hasEnded = state.end(index)
    if hasEnded { publish(state) }
    let task = state.take(for: index)
    // What still waits may have to be given a thread of its own later. An idle thread that was woken for it may be the
    // one that has taken another task now.
    if state.hasTasks { keep(&state) }
    if let task {
      // A task may have waited for the end of this thread's last one, because both are of the same region, and this
      // thread has taken a different task now. For that reason the idle threads look again.
      return .run(task, wakesOthers: hasEnded && state.hasTasks)
    }
    return state.isStopping ? .end : nil
  }

  // MARK: Calls that hold up others

  /// Has the keeper look at the tasks that wait, until none waits any more.
  private func keep(_ state: inout PoolState) {
    guard !state.isKept else { return }
    state.isKept = true
    keeper.wake()
  }

  /// Starts threads for tasks that may begin and find no idle thread. Returns whether tasks still wait.
  private func look() -> Bool {
    for isSerial in [false, true] {
      switch state.withLock({ $0.remedy(isSerial: isSerial) }) {
      case .wakeIdle:
        state.announce()
      case .startThread:
        _ = try? start(isSerial: isSerial, isUrgent: true)
      case nil: break
      }
    }
    return state.withLock { state in
      if !state.hasTasks { state.isKept = false }
      return state.isKept
    }
  }
}
