internal import CUFFD

/// The threads on which providers run that may block: a fixed number, started with the first region that may need them,
/// because starting one allocates, and the path of a fault must not.
///
/// Demand goes before prefetch, and prefetches never have all of the threads; no region has all of them either, as long as
/// there is more than one, so that a provider that is stuck holds up its own region and leaves a thread to the others. A provider
/// that does not permit concurrent requests is asked by one thread at a time, whatever it is asked for.
final class ProviderPool: Sendable {
  private let threadLimit: Int
  private let state = Monitor(State(), holdsSignals: true)

  private struct State {
    var demand: [PoolTask] = []
    var prefetch: [PoolTask] = []
    /// What each thread is working on.
    var running: [PoolTask?] = []
    /// Threads whose place another one has taken, because they are stuck.
    var replaced: Set<Int> = []
    /// What they are stuck in, where that is the only request that the provider permits.
    var stuck: [Int: Region] = [:]
    /// Places of threads that were stuck, and have ended since.
    var vacant: [Int] = []
    /// Threads beyond the limit, for those that came to wait in faults.
    var extra = 0
    /// The kernel's numbers of the threads.
    var numbers: [UInt32] = []
    /// Threads whose task has come to wait in a fault: what they wait for may be their own region's.
    var waiting: Set<Int> = []
    var isStopping = false
    var threads: [FaultThread] = []
    /// The slot of the thread for providers that cannot be asked by several threads, where a delivery wants one.
    var serialSlot: Int?

    /// Room for what a crowd of threads asks for, so that faults allocate nothing.
    init() {
      demand.reserveCapacity(128)
      prefetch.reserveCapacity(16)
    }

    /// The next task for the thread with this slot, of which not too many are running.
    mutating func take(for slot: Int, share: Int) -> PoolTask? {
      let isSerial = slot == serialSlot
      if let index = demand.firstIndex(where: { $0.isSerial == isSerial && hasRoom(for: $0.region, share) }) {
        return demand.remove(at: index)
      }
      guard isSerial || runningPrefetches < share else { return nil }
      let index = prefetch.firstIndex { task in
        task.isSerial == isSerial && (task.region.mayBeAskedConcurrently || isFree(task.region))
      }
      return index.map { prefetch.remove(at: $0) }
    }

    private func hasRoom(for region: Region, _ share: Int) -> Bool {
      region.mayBeAskedConcurrently ? running(of: region) < share : isFree(region)
    }

    /// Whether no thread asks the provider of a region, not even one that waits in a fault meanwhile or was given up.
    private func isFree(_ region: Region) -> Bool {
      !isStuck(region) && !running.contains { $0?.region === region }
    }

    func isStuck(_ region: Region) -> Bool { !stuck.isEmpty && stuck.values.contains { $0 === region } }

    func running(of region: Region) -> Int {
      running.indices.count { running[$0]?.region === region && !waiting.contains($0) }
    }

    /// Threads that are not stuck in what was given up, without the serial one.
    var useful: Int { threads.count - vacant.count - replaced.count - (serialSlot == nil ? 0 : 1) }

    /// The prefetches that run on threads that others need. The serial thread is not one of them.
    var runningPrefetches: Int {
      running.indices.count { slot in
        if slot != serialSlot, case .prefetch? = running[slot] { true } else { false }
      }
    }
  }

  private static let stackByteCount = 1 << 20
  /// More threads than this that are stuck are not replaced.
  private static let largestReplacement = 64

  /// The numbers of the threads, and of the handlers'.
  let ownThreads: OwnThreads

  init(threadLimit: Int, ownThreads: OwnThreads) {
    self.threadLimit = threadLimit
    self.ownThreads = ownThreads
  }

  /// What the pool's threads say of themselves, and the thread for providers that cannot be asked by several threads. An address is
  /// even.
  private var role: UInt64 { unsafe UInt64(UInt(bitPattern: Unmanaged.passUnretained(self).toOpaque())) }

  /// Whether the caller is a thread of the pool. Takes no lock: it is asked in signal handlers, too.
  var isOnPoolThread: Bool { cuffd_thread_role() & ~1 == role }

  /// Whether the caller is the thread for providers that cannot be asked by several threads.
  var isOnSerialThread: Bool { cuffd_thread_role() == role | 1 }

  /// Whether each thread sleeps in a fault, so that none is left to answer one. Where the kernel does not tell: whether each has
  /// come to wait in one since it began its task.
  var allWaitInFaults: Bool {
    let threads = state.withLock { state -> [(number: UInt32, waits: Bool)] in
      state.running.indices
        .filter { !state.replaced.contains($0) && !state.vacant.contains($0) }
        .map { (state.numbers[$0], state.waiting.contains($0)) }
    }
    return threads.allSatisfy { $0.waits && cuffd_thread_waits_in_fault($0.number) != 0 }
  }

  /// Starts the threads, unless they are there. Throws where there is none in the end: `submit` would have nobody to work.
  ///
  /// - Parameter serially: whether there has to be a thread for providers that cannot be asked by several threads. Nobody but
  ///   that thread then asks them.
  func prepare(serially: Bool = false) throws(HostCallError) {
    if serially { _ = try start(isSerial: true) }
    do throws(HostCallError) {
      while try start() {}
    } catch {
      // A few are better than none.
      if state.withLock({ $0.useful == 0 }) { throw error }
    }
  }

  func submit(_ task: PoolTask) {
    let isForAny = state.withLock { state in
      // After the end of the last region nobody waits for a fault any more, and the task would keep the pool alive.
      if state.isStopping, case .demand = task { return false }
      // Whoever peeks waits, as whoever faults does.
      if case .prefetch(let job, _) = task {
        job.waitingSince = job.region.deadline == 0 ? 0 : cuffd_monotonic_nanoseconds()
        state.prefetch.append(task)
      } else {
        state.demand.append(task)
      }
      return state.serialSlot == nil
    }
    if isForAny { state.announceToOne() } else { state.announce() }
  }

  /// Somebody has given up a request. Where a thread works on it, another one takes that thread's place.
  func giveUp(_ request: PoolRequest) { giveUp { $0.isFor(request) } }

  /// Takes out the prefetches that have waited for longer than their region's deadline behind a request that was given up and has
  /// not returned, where the provider permits no other one.
  func withdrawOverdue() -> [(job: PoolPrefetch, server: any PoolServer)] {
    state.withLock { state in
      guard !state.stuck.isEmpty else { return [] }
      // With the lock held, so that no job can have been submitted later than this.
      let now = cuffd_monotonic_nanoseconds()
      var overdue: [(job: PoolPrefetch, server: any PoolServer)] = []
      var others: [PoolTask] = []
      for task in state.prefetch {
        if case .prefetch(let job, let server) = task, state.isStuck(job.region),
          now - job.waitingSince > job.region.deadline
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
    // Without a thread, the others have to do: its region has one task less.
    _ = try? start()
    state.announce()
  }

  /// A thread of the runtime's own waits in a fault. Where all of the pool's may come to wait so, nobody would be left to
  /// answer: one more.
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

  /// Ends the threads, each when its provider has returned; what has not returned within `nanoseconds` is left alone.
  func stop(nanoseconds: UInt64) {
    let (threads, replaced) = state.withLock { state in
      state.isStopping = true
      return (state.threads, state.replaced)
    }
    state.announce()
    let start = cuffd_monotonic_nanoseconds()
    for (slot, thread) in threads.enumerated() {
      let passed = cuffd_monotonic_nanoseconds() - start
      // One that was replaced is known to be stuck, unless it has ended.
      let patience = replaced.contains(slot) ? 0 : nanoseconds - min(passed, nanoseconds)
      if thread.isCurrent || !thread.join(nanoseconds: patience) { thread.detach() }
    }
  }

  /// Starts one more thread. False where that would be too many: as many as were replaced, and `extra`, are on top of the
  /// limit.
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
          // Nobody waits for the end of the one that was there.
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

  /// The next task for the thread with this slot; nil where it shall end.
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
    // A task may have had to wait for the end of the last one, because of its region, and this thread may have chosen another. The
    // threads that found nothing to do look again.
    if makesRoom { state.announce() }
    return task ?? nil
  }
}
