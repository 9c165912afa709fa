internal import CUFFD

/// The threads on which providers run that may block: a bounded number, started when there is work for them.
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
    var idle = 0
    var isStopping = false
    var threads: [FaultThread] = []

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

  /// Makes sure that there is a thread at all, so that `submit` never has nobody to work.
  func prepare() throws(HostCallError) {
    if state.withLock({ $0.threads.isEmpty }) { try start() }
  }

  func submit(_ task: PoolTask) {
    let needsThread = state.withLock { state in
      if case .demand = task { state.demand.append(task) } else { state.prefetch.append(task) }
      return state.idle < state.demand.count + state.prefetch.count && state.threads.count < threadLimit
    }
    // Without another one, those that are there get to it.
    if needsThread { try? start() }
    state.announce()
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

  private func start() throws(HostCallError) {
    let slot = state.withLock { state -> Int? in
      guard state.running.count < threadLimit, !state.isStopping else { return nil }
      state.running.append(nil)
      return state.running.count - 1
    }
    guard let slot else { return }
    do throws(HostCallError) {
      let thread = try FaultThread(name: "fault-provider\(slot)", stackByteCount: Self.stackByteCount) { [self] in
        var worker = PoolWorker()
        while let task = next(slot) { worker.run(task, pool: self) }
      }
      state.withLock { $0.threads.append(thread) }
    } catch {
      state.withLock { _ = $0.running.popLast() }
      throw error
    }
  }

  /// The next task for the thread with this slot; nil where it shall end.
  private func next(_ slot: Int) -> PoolTask? {
    state.withLock { $0.running[slot] = nil }
    // What a region or the prefetches were held back for may be free now.
    state.announce()
    let share = max(1, threadLimit - 1)
    let task = state.wait { state -> PoolTask?? in
      let chosen: PoolTask? =
        if let index = state.demand.firstIndex(where: { state.running(of: $0.region) < share }) {
          state.demand.remove(at: index)
        } else if !state.prefetch.isEmpty, state.runningPrefetches < share {
          state.prefetch.removeFirst()
        } else {
          nil
        }
      if let chosen {
        state.running[slot] = chosen
        return .some(chosen)
      }
      return state.isStopping ? .some(nil) : nil
    }
    return task ?? nil
  }
}
