/// A thread that looks from time to time whether calls of providers hold up the tasks that wait for a thread of the
/// pool. It sleeps while no task waits, and starts threads so that no thread on the path of a fault has to.
final class PoolKeeper: Sendable {
  private struct State: Sendable {
    var isNeeded = false
    var isStopping = false
    var thread: FaultThread?
  }

  // Faulting threads wake the keeper in their signal handlers.
  private let state = Monitor(State(), holdsSignals: true)
  /// The time between two looks, in nanoseconds.
  private let period: UInt64

  init(patience: UInt64) { period = max(1_000_000, min(patience / 4, 25_000_000)) }

  /// Starts the thread, unless it has been started already.
  ///
  /// - Parameter look: looks at the pool, and returns whether tasks still wait.
  func start(_ look: @escaping @Sendable () -> Bool) throws(HostCallError) {
    let failure = state.withLock { state -> HostCallError? in
      guard state.thread == nil, !state.isStopping else { return nil }
      do throws(HostCallError) {
        state.thread = try FaultThread(name: "fault-keeper", stackByteCount: 1 << 18) { [self] in run(look) }
        return nil
      } catch {
        return error
      }
    }
    if let failure { throw failure }
  }

  /// Begins to look at the pool. The caller may hold the lock of the pool.
  func wake() {
    state.withLock { $0.isNeeded = true }
    state.announce()
  }

  /// Ends the thread, and waits until it has ended, or until the time is up.
  func stop(nanoseconds: UInt64) {
    let thread = state.withLock { state in
      state.isStopping = true
      return state.thread
    }
    state.announce()
    thread?.end(nanoseconds: nanoseconds)
  }

  private func run(_ look: () -> Bool) {
    while true {
      let isStopping = state.wait { state -> Bool? in
        defer { state.isNeeded = false }
        return state.isStopping ? true : state.isNeeded ? false : nil
      }
      if isStopping == true { return }
      repeat {
        if state.wait(nanoseconds: period, for: { $0.isStopping ? true : nil }) != nil { return }
      } while look()
    }
  }
}
