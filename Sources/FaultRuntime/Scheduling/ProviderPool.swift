internal import CUFFD

/// The threads on which providers run that may block: a fixed number, started with the first region that may need them,
/// because starting one allocates, and the path of a fault must not.
///
/// Demand goes before prefetch, and prefetches never have all of the threads; no region has all of them either, as long as
/// there is more than one, so that a provider that is stuck holds up its own region and leaves a thread to the others.
final class ProviderPool: Sendable {
  private let threadLimit: Int
  private let state = Monitor(State())

  private struct State {
    var demand: [PoolTask] = []
    var prefetch: [PoolTask] = []
    /// What each thread is working on.
    var running: [PoolTask?] = []
    var isStopping = false
    var threads: [FaultThread] = []

    /// Room for what a crowd of threads asks for, so that faults allocate nothing.
    init() {
      demand.reserveCapacity(64)
      prefetch.reserveCapacity(16)
    }

    /// The next task of which not too many are running.
    mutating func take(share: Int) -> PoolTask? {
      if let index = demand.firstIndex(where: { running(of: $0.region) < share }) { return demand.remove(at: index) }
      guard !prefetch.isEmpty, runningPrefetches < share else { return nil }
      return prefetch.removeFirst()
    }

    func running(of region: RegionCore?) -> Int { running.count { $0 != nil && $0?.region === region } }

    var runningPrefetches: Int {
      running.count { task in
        if case .prefetch? = task { true } else { false }
      }
    }
  }

  private static let stackByteCount = 1 << 20

  init(threadLimit: Int) { self.threadLimit = threadLimit }

  /// Whether the caller is a thread of the pool.
  var isOnPoolThread: Bool { state.withLock { $0.threads.contains { $0.isCurrent } } }

  /// Starts the threads, unless they are there. Throws where there is none in the end: `submit` would have nobody to work.
  func prepare() throws(HostCallError) {
    do throws(HostCallError) {
      while try start() {}
    } catch {
      // A few are better than none.
      if state.withLock({ $0.threads.isEmpty }) { throw error }
    }
  }

  func submit(_ task: PoolTask) {
    state.withLock { state in
      if case .demand = task { state.demand.append(task) } else { state.prefetch.append(task) }
    }
    state.announceToOne()
  }

  /// Ends the threads, each when its provider has returned; one that does not return within `nanoseconds` is left alone.
  func stop(nanoseconds: UInt64) {
    let threads = state.withLock { state in
      state.isStopping = true
      return state.threads
    }
    state.announce()
    for thread in threads where thread.isCurrent || !thread.join(nanoseconds: nanoseconds) { thread.detach() }
  }

  /// Starts one more thread. False where that would be too many.
  private func start() throws(HostCallError) -> Bool {
    var hasStarted = false
    let failure = state.withLock { state -> HostCallError? in
      let slot = state.threads.count
      guard slot < threadLimit, !state.isStopping else { return nil }
      do throws(HostCallError) {
        let thread = try FaultThread(name: "fault-provider\(slot)", stackByteCount: Self.stackByteCount) { [self] in
          var worker = PoolWorker()
          while let task = next(slot) { worker.run(task, pool: self) }
        }
        state.threads.append(thread)
        state.running.append(nil)
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
    let task = state.wait { state -> PoolTask?? in
      state.running[slot] = nil
      guard let chosen = state.take(share: max(1, threadLimit - 1)) else { return state.isStopping ? .some(nil) : nil }
      state.running[slot] = chosen
      return .some(chosen)
    }
    return task ?? nil
  }
}
