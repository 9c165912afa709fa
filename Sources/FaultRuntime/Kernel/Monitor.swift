internal import CUFFD

/// A value behind a lock, and threads that wait for the value to change. It is for work that is off the fault path.
///
/// This is not `Synchronization.Mutex`, because ThreadSanitizer does not see that lock on Linux and reports every use of it as a
/// race.
@safe
// Safe to share: the value is only reached while the monitor is entered.
final class Monitor<Value: ~Copyable>: @unchecked Sendable {
  private let monitor: OpaquePointer
  private let holdsSignals: Bool
  private var value: Value

  /// - Parameter holdsSignals: whether a thread of the program keeps its signals waiting while it has the lock. This is for locks
  ///   that the answer to a fault needs: a signal handler of the program may touch lazy memory, and must not find the lock taken
  ///   by the very thread that it interrupts. The threads of the runtime's own block those signals anyhow.
  init(_ value: consuming sending Value, holdsSignals: Bool = false) {
    self.holdsSignals = holdsSignals
    guard let created = unsafe cuffd_monitor_create() else {
      fatalError("FaultRuntime: no memory for a lock of a few bytes")
    }
    unsafe monitor = created
    self.value = value
  }

  deinit {
    unsafe cuffd_monitor_destroy(monitor)
  }

  /// Runs `body` with the lock held. The body must not fault on lazy memory.
  func withLock<Result>(_ body: (inout Value) -> Result) -> Result {
    if holdsSignals, cuffd_thread_role() == 0 { return holdingSignals { locked(body) } }
    return locked(body)
  }

  @inline(__always)
  private func locked<Result>(_ body: (inout Value) -> Result) -> Result {
    unsafe cuffd_monitor_enter(monitor)
    defer { unsafe cuffd_monitor_leave(monitor) }
    return body(&value)
  }

  /// Lets every thread that waits look again.
  func announce() { unsafe cuffd_monitor_announce(monitor) }

  /// Lets one of the waiting threads look again, where it does not matter which one.
  func announceToOne() { unsafe cuffd_monitor_announce_to_one(monitor) }

  /// Runs `body` with the lock held, at once and after each announcement, until it has a result. Returns nil where there was no
  /// result within `nanoseconds`.
  func wait<Result>(nanoseconds: UInt64 = .max, for body: (inout Value) -> Result?) -> Result? {
    if holdsSignals, cuffd_thread_role() == 0 { return holdingSignals { lockedWait(nanoseconds, body) } }
    return lockedWait(nanoseconds, body)
  }

  private func lockedWait<Result>(_ nanoseconds: UInt64, _ body: (inout Value) -> Result?) -> Result? {
    let start = nanoseconds == .max ? 0 : cuffd_monotonic_nanoseconds()
    unsafe cuffd_monitor_enter(monitor)
    defer { unsafe cuffd_monitor_leave(monitor) }
    while true {
      if let result = body(&value) { return result }
      var left = UInt64.max
      if nanoseconds != .max {
        let passed = cuffd_monotonic_nanoseconds() - start
        guard passed < nanoseconds else { return nil }
        left = nanoseconds - passed
      }
      _ = unsafe cuffd_monitor_wait(monitor, left)
    }
  }
}
