internal import CUFFD

/// A value that is protected by a lock, together with a condition variable on which threads wait until the value
/// changes.
///
/// This type exists because ThreadSanitizer does not recognise `Synchronization.Mutex` on Linux, and reports every
/// use of that lock as a race.
@safe
// Safe to share: a thread reaches the value only while it holds the lock.
final class Monitor<Value: ~Copyable>: @unchecked Sendable {
  private let monitor: OpaquePointer
  private let holdsSignals: Bool
  private var value: Value

  /// - Parameter holdsSignals: whether a thread of the program blocks its signals, and cannot be cancelled, while it
  ///   holds the lock. A signal handler of the program may touch lazy memory. It must not need a lock that is held by
  ///   the very thread that it interrupts, not even by way of another thread. The runtime's own threads block these
  ///   signals at all times. Where this is false, the callers do the same themselves.
  init(_ value: consuming sending Value, holdsSignals: Bool = true) {
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

  /// Runs `body` with the lock held. `body` must not fault on lazy memory.
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

  /// Has each fork of the process wait for this lock, which must never be destroyed. Locks are taken in the order of
  /// these calls.
  func prepareForFork() { unsafe cuffd_fork_add(monitor) }

  /// Wakes all threads that wait in ``wait(nanoseconds:for:)``, so that they check the value again.
  func announce() {
    if holdsSignals, cuffd_thread_role() == 0 { return holdingSignals { unsafe cuffd_monitor_announce(monitor) } }
    unsafe cuffd_monitor_announce(monitor)
  }

  /// Wakes one of the threads that wait in ``wait(nanoseconds:for:)``. This is enough if any of them can use the new
  /// value.
  func announceToOne() {
    if holdsSignals, cuffd_thread_role() == 0 {
      return holdingSignals { unsafe cuffd_monitor_announce_to_one(monitor) }
    }
    unsafe cuffd_monitor_announce_to_one(monitor)
  }

  /// Runs `body` with the lock held, at once, after each announcement and from time to time, until it returns a result.
  /// The lock is free while the thread sleeps. Returns nil if there is no result within `nanoseconds`. A thread of the
  /// program gets its signals with a delay of some milliseconds meanwhile, unless it waits in a fault.
  func wait<Result>(nanoseconds: UInt64 = .max, for body: (inout Value) -> Result?) -> Result? {
    guard holdsSignals, cuffd_thread_role() == 0 else { return lockedWait(nanoseconds, body) }
    // In a fault all signals are blocked in any case.
    if cuffd_is_answering() { return holdingSignals { lockedWait(nanoseconds, body) } }
    let start = cuffd_monotonic_nanoseconds()
    while true {
      let passed = cuffd_monotonic_nanoseconds() - start
      let left = nanoseconds == .max ? .max : nanoseconds - min(passed, nanoseconds)
      if let result = holdingSignals({ lockedWait(min(left, Self.longestHold), body) }) { return result }
      if left <= Self.longestHold { return nil }
    }
  }

  /// How long a thread of the program waits at most before it gets the signals that have come meanwhile, in
  /// nanoseconds.
  private static var longestHold: UInt64 { 10_000_000 }

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
