internal import CUFFD

/// The threads on which the runtime asks providers that may block. They are started when the first region that needs
/// them is opened, because starting a thread allocates and the path of a fault must not allocate. Later the pool
/// starts threads only in place of stuck ones, and where all of its threads may come to wait in faults.
///
/// Demand goes before prefetch. A thread takes a task of a region only while fewer than `threadLimit - 1` threads work
/// for that region, so a provider that is stuck leaves a thread to the faults of other regions. Prefetches, counted
/// over all regions, also occupy at most `threadLimit - 1` threads. Where `threadLimit` is 1, the one thread does
/// everything.
///
/// A provider that does not permit concurrent requests is asked by one thread at a time, whether for a fault, a
/// prefetch or a peek. Some deliveries have such providers asked on the serial thread, which is not counted in
/// `threadLimit` and does nothing else.
final class ProviderPool: Sendable {
  private let threadLimit: Int
  private let state = Monitor(State())

  private struct State {
    var demand: [PoolTask] = []
    var prefetch: [PoolTask] = []
    /// The task that each thread is working on; nil where the thread has none, or where its task was given up.
    var running: [PoolTask?] = []
    /// The slots of threads whose task was given up, and which have not returned from it. Another thread may have
    /// been started in place of each.
    var replaced: Set<Int> = []
    /// The regions of the tasks that were given up, by slot. Only regions whose provider permits one request at a
    /// time are in here: until the call returns, the provider must not be asked again.
    var stuck: [Int: Region] = [:]
    /// The slots of threads that were replaced and have ended since. New threads use these slots again.
    var vacant: [Int] = []
    /// How many threads are permitted beyond the limit, because threads of the pool have come to wait in faults.
    var extra = 0
    /// The kernel's number of each thread; 0 until the thread has started and after it has ended.
    var numbers: [UInt32] = []
    /// The slots of threads whose task has come to wait in a fault. They do not count against the limit of their
    /// region, because the page that they wait for may belong to the same region.
    var waiting: Set<Int> = []
    var isStopping = false
    var threads: [FaultThread] = []
    /// The slot of the serial thread, which asks the providers that only one thread may ask; nil where no delivery
    /// needs it.
    var serialSlot: Int?

    /// Reserves room for the requests of many threads at once, so that faults allocate nothing.
    init() {
      demand.reserveCapacity(128)
      prefetch.reserveCapacity(16)
    }

    /// Removes and returns the next task for the thread with this slot; nil where no waiting task may run now.
    ///
    /// - Parameter share: the number of threads that the demand of one region, or all prefetches together, may
    ///   occupy.
    mutating func take(for slot: Int, share: Int) -> PoolTask? {
      let isSerial = slot == serialSlot
      if let index = demand.firstIndex(where: { $0.isSerial == isSerial && hasRoom(for: $0.region, share) }) {
        return demand.remove(at: index)
      }
      guard isSerial || runningPrefetches < share else { return nil }
      let index = prefetch.firstIndex { task in
        task.isSerial == isSerial && hasRoom(for: task.region, share)
      }
      return index.map { prefetch.remove(at: $0) }
    }

    private func hasRoom(for region: Region, _ share: Int) -> Bool {
      region.mayBeAskedConcurrently ? running(of: region) < share : isFree(region)
    }

    /// Whether no thread is asking the provider of a region. A thread that waits in a fault meanwhile counts as
    /// asking, and so does one whose task was given up.
    private func isFree(_ region: Region) -> Bool {
      !isStuck(region) && !running.contains { $0?.region === region }
    }

    func isStuck(_ region: Region) -> Bool { !stuck.isEmpty && stuck.values.contains { $0 === region } }

    func running(of region: Region) -> Int {
      running.indices.count { running[$0]?.region === region && !waiting.contains($0) }
    }

    /// The number of threads that are not stuck in a task that was given up, without the serial thread.
    var useful: Int { threads.count - vacant.count - replaced.count - (serialSlot == nil ? 0 : 1) }

    /// The number of prefetches that are running on threads other than the serial one. A prefetch on the serial
    /// thread takes no thread away from the others.
    var runningPrefetches: Int {
      running.indices.count { slot in
        if slot != serialSlot, case .prefetch? = running[slot] { true } else { false }
      }
    }
  }

  private static let stackByteCount = 1 << 20
  /// The largest number of threads beyond the limit. It counts threads in place of stuck ones, and threads that were
  /// started because others wait in faults.
  private static let largestReplacement = 64

  /// The kernel's numbers of the pool's threads and of the handler threads.
  let ownThreads: OwnThreads

  init(threadLimit: Int, ownThreads: OwnThreads) {
    self.threadLimit = threadLimit
    self.ownThreads = ownThreads
  }

  /// The role (`cuffd_thread_role`) of the pool's threads: the address of the pool, which is even. The serial thread
  /// has this number plus one.
  private var role: UInt64 { unsafe UInt64(UInt(bitPattern: Unmanaged.passUnretained(self).toOpaque())) }

  /// Whether the caller is a thread of the pool. Takes no lock, because signal handlers ask this as well.
  var isOnPoolThread: Bool { cuffd_thread_role() & ~1 == role }

  /// Whether the caller is the serial thread of the pool.
  var isOnSerialThread: Bool { cuffd_thread_role() == role | 1 }

  /// Whether every thread of the pool sleeps in a fault, so that none is left to answer one. Where the kernel does
  /// not say whether a thread sleeps, a thread counts if it has come to wait in a fault since it began its task.
  var allWaitInFaults: Bool {
    let threads = state.withLock { state -> [(number: UInt32, waits: Bool)] in
      state.running.indices
        .filter { !state.replaced.contains($0) && !state.vacant.contains($0) }
        .map { (state.numbers[$0], state.waiting.contains($0)) }
    }
    return threads.allSatisfy { $0.waits && cuffd_thread_waits_in_fault($0.number) != 0 }
  }

  /// Starts the threads, unless they have been started already.
  ///
  /// - Parameter serially: whether the serial thread is needed as well.
  /// - Throws: a ``HostCallError`` where a thread cannot be started and the pool has no thread at all, or no serial
  ///   thread although it is needed. Tasks that were submitted would then never run.
  func prepare(serially: Bool = false) throws(HostCallError) {
    if serially { _ = try start(isSerial: true) }
    do throws(HostCallError) {
      while try start() {}
    } catch {
      // Fewer threads than the limit can still do the work.
      if state.withLock({ $0.useful == 0 }) { throw error }
    }
  }

  /// The number of prefetches that wait for a thread. Tests wait for it.
  var queuedPrefetches: Int { state.withLock { $0.prefetch.count } }

  func submit(_ task: PoolTask) {
    let isForAny = state.withLock { state in
      // The pool stops after the last region has ended, so no thread waits for this fault any more. The task would
      // only keep the pool alive.
      if state.isStopping, case .demand = task { return false }
      // A peek counts as demand: its caller waits, as a faulting thread does.
      if case .prefetch(let job, _) = task {
        job.waitingSince = job.region.timeout == 0 ? 0 : cuffd_monotonic_nanoseconds()
        state.prefetch.append(task)
      } else {
        state.demand.append(task)
      }
      return state.serialSlot == nil
    }
    if isForAny { state.announceToOne() } else { state.announce() }
  }

  /// Notes that a request was given up. If a thread of the pool is working on it, another thread is started in place
  /// of that one. If the request still waits for a thread, it is dropped.
  func giveUp(_ request: PoolRequest) { giveUp { $0.isFor(request) } }

  /// Removes and returns the prefetches that have waited for longer than their region's timeout because their
  /// provider permits one request at a time and is stuck in a request that was given up.
  func withdrawOverdue() -> [(job: PoolPrefetch, server: any PoolServer)] {
    state.withLock { state in
      guard !state.stuck.isEmpty else { return [] }
      // The clock is read with the lock held, so that `waitingSince` of a job is never later than `now`.
      let now = cuffd_monotonic_nanoseconds()
      var overdue: [(job: PoolPrefetch, server: any PoolServer)] = []
      var others: [PoolTask] = []
      for task in state.prefetch {
        if case .prefetch(let job, let server) = task, state.isStuck(job.region),
          now - job.waitingSince > job.region.timeout
        {
          overdue.append((job, server))
        } else {
          others.append(task)
        }
      }
      if !overdue.isEmpty { state.prefetch = others }
      return overdue
    }
  }

  func giveUp(_ job: PeekJob) { giveUp { $0.isFor(job) } }

  private func giveUp(_ isMeant: (PoolTask) -> Bool) {
    let isStuck = state.withLock { state -> Bool in
      if let slot = state.running.firstIndex(where: { $0.map(isMeant) ?? false }) {
        if let region = state.running[slot]?.region, !region.mayBeAskedConcurrently { state.stuck[slot] = region }
        state.running[slot] = nil
        state.waiting.remove(slot)
        state.replaced.insert(slot)
        return true
      }
      state.demand.removeAll(where: isMeant)
      return false
    }
    guard isStuck else { return }
    // If no thread can be started, the other threads take over. The region of the stuck thread now counts one task
    // less, so they may take tasks of that region.
    _ = try? start()
    state.announce()
  }

  /// Notes that `asker`, a thread of the runtime's own, waits in a fault that the pool has to answer. If no thread of
  /// the pool is idle, one more is started, because otherwise all of them might end up waiting in faults, with none
  /// left to answer.
  func addThread(for asker: UInt32) {
    let hasIdle = state.withLock { state in
      if let slot = state.numbers.firstIndex(of: asker), state.running[slot] != nil { state.waiting.insert(slot) }
      return state.running.indices.contains {
        state.running[$0] == nil && !state.replaced.contains($0) && !state.vacant.contains($0)
      }
    }
    if !hasIdle { _ = try? start(beyond: 1) }
    state.announce()
  }

  /// Ends the threads, each when its provider has returned. Blocks for at most `nanoseconds` in total; threads that
  /// have not ended by then are detached and end by themselves.
  func stop(nanoseconds: UInt64) {
    let (threads, replaced) = state.withLock { state in
      state.isStopping = true
      return (state.threads, state.replaced)
    }
    state.announce()
    let timeout = SharedTimeout(nanoseconds: nanoseconds)
    for (slot, thread) in threads.enumerated() {
      // A thread that was replaced is stuck, so it is joined only if it has ended already.
      thread.end(nanoseconds: replaced.contains(slot) ? 0 : timeout.remaining)
    }
  }

  /// Starts one more thread. Returns false where that would be too many, where the serial thread is wanted and
  /// exists, or where the pool stops. The limit is `threadLimit`, plus the threads that were replaced, plus all the
  /// extra threads that were ever permitted; at most `largestReplacement` are added.
  private func start(beyond extra: Int = 0, isSerial: Bool = false) throws(HostCallError) -> Bool {
    var hasStarted = false
    let failure = state.withLock { state -> HostCallError? in
      state.extra = min(state.extra + extra, Self.largestReplacement)
      let limit = threadLimit + min(state.replaced.count + state.extra, Self.largestReplacement)
      let count = state.threads.count - state.vacant.count - (state.serialSlot == nil ? 0 : 1)
      guard isSerial ? state.serialSlot == nil : count < limit, !state.isStopping else { return nil }
      let slot = state.vacant.last ?? state.threads.count
      do throws(HostCallError) {
        let name = isSerial ? "fault-serial" : "fault-pool\(slot)"
        let thread = try FaultThread(name: name, stackByteCount: Self.stackByteCount) { [self] in
          cuffd_thread_set_role(isSerial ? role | 1 : role)
          ownThreads.addCaller()
          self.state.withLock { $0.numbers[slot] = cuffd_thread_id() }
          var worker = PoolWorker()
          while let task = next(slot) { worker.run(task) }
          ownThreads.removeCaller()
        }
        if slot == state.threads.count {
          state.threads.append(thread)
          state.running.append(nil)
          state.numbers.append(0)
        } else {
          // The earlier thread of this slot has ended, and no thread has to join it.
          state.threads[slot].detach()
          state.threads[slot] = thread
          state.numbers[slot] = 0
          state.vacant.removeLast()
        }
        if isSerial { state.serialSlot = slot }
        hasStarted = true
        return nil
      } catch {
        return error
      }
    }
    if let failure { throw failure }
    return hasStarted
  }

  /// Waits for the next task of the thread with this slot, and returns it; returns nil where the thread shall end.
  private func next(_ slot: Int) -> PoolTask? {
    var makesRoom = false
    let task = state.wait { state -> PoolTask?? in
      if state.stuck.removeValue(forKey: slot) != nil || state.running[slot] != nil { makesRoom = true }
      if state.replaced.remove(slot) != nil, state.useful > threadLimit + state.extra {
        state.numbers[slot] = 0
        state.vacant.append(slot)
        return .some(nil)
      }
      state.running[slot] = nil
      state.waiting.remove(slot)
      guard let chosen = state.take(for: slot, share: max(1, threadLimit - 1)) else {
        return state.isStopping ? .some(nil) : nil
      }
      state.running[slot] = chosen
      return .some(chosen)
    }
    // A task may have waited for the end of this thread's last one, because both are of the same region, and this
    // thread may have taken a different task now. For that reason the idle threads look again.
    if makesRoom { state.announce() }
    return task ?? nil
  }
}
