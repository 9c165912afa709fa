internal import CUFFD

/// A thread that looks at the handlers from time to time. It gives up requests that have taken longer than their
/// region's timeout, and ends waits that would never end. It is not on the path of a fault.
final class Watchdog: Sendable {
  private struct State: Sendable {
    /// For each period in nanoseconds, the number of open regions that need it.
    var wanted: [UInt64: Int] = [:]
    var period: UInt64 { wanted.keys.min() ?? Watchdog.longestPeriod }
    /// The handlers in the order of their numbers.
    var loops: [EventLoop] = []
    var isStopping = false
    var thread: FaultThread?
  }

  /// The period where no timeout needs a shorter one, in nanoseconds.
  private static let longestPeriod: UInt64 = 500_000_000
  private static let shortestPeriod: UInt64 = 1_000_000

  private let state = Monitor(State())

  /// Begins to look at more handlers.
  func add(_ loops: [EventLoop]) { state.withLock { $0.loops += loops } }

  /// The time between two looks, in nanoseconds.
  var period: UInt64 { state.withLock { $0.period } }

  private static func period(for timeout: UInt64) -> UInt64 { max(shortestPeriod, min(timeout / 4, longestPeriod)) }

  /// Begins to look after a region, and starts the thread if it does not run yet.
  ///
  /// - Parameter timeout: the region's timeout in nanoseconds; 0 where it has none.
  /// - Throws: ``FaultRuntimeError`` with the code `cannotStart` where the thread cannot be started.
  func watch(timeout: UInt64) throws(FaultRuntimeError) {
    let (failure, isSooner) = state.withLock { state -> (HostCallError?, Bool) in
      let before = state.period
      if timeout != 0 { state.wanted[Self.period(for: timeout), default: 0] += 1 }
      let isSooner = state.period < before
      guard state.thread == nil, !state.isStopping else { return (nil, isSooner) }
      do throws(HostCallError) {
        state.thread = try FaultThread(name: "fault-watchdog", stackByteCount: 1 << 18) { [self] in run() }
        return (nil, false)
      } catch {
        return (error, false)
      }
    }
    if isSooner { state.announce() }
    if let failure {
      regionEnded(timeout: timeout)
      throw .cannotStart(failure)
    }
  }

  /// Notes that a region with this timeout has ended.
  func regionEnded(timeout: UInt64) {
    guard timeout != 0 else { return }
    let period = Self.period(for: timeout)
    state.withLock { state in
      let count = state.wanted[period, default: 0]
      state.wanted[period] = count > 1 ? count - 1 : nil
    }
  }

  /// Ends the thread, and waits until it has ended, or until the time is up: a hook of the program may not return.
  func stop(nanoseconds: UInt64) {
    let thread = state.withLock { state in
      state.isStopping = true
      // The handlers hold the watchdog.
      state.loops = []
      return state.thread
    }
    state.announce()
    thread?.end(nanoseconds: nanoseconds)
  }

  private func run() {
    var detector = DeadlockDetector()
    while !isOver() {
      let loops = state.withLock { $0.loops }
      for loop in loops {
        // A handler that reads another file in place of its userfaultfd may wait for ever, and meets no error.
        loop.uffd.endIfLost()
        loop.giveUpOverdue()
      }
      detector.look(at: loops)
    }
  }

  /// Waits until the next look. Returns true where the watchdog has to stop instead.
  private func isOver() -> Bool {
    var period: UInt64 = 0
    // A shorter period takes effect at once.
    while true {
      let before = period
      period = state.withLock { $0.period }
      if before == period { return false }
      let isStopping = state.wait(nanoseconds: period) { state -> Bool? in
        state.isStopping ? true : state.period < period ? false : nil
      }
      if isStopping == true { return true }
      if isStopping == nil { return false }
    }
  }
}
