internal import CUFFD

/// A value behind a lock, and threads that wait for it to change. Off the fault path, as `Guarded` is.
@safe
// Safe to share: the value is only reached while the lock is held.
final class Monitor<Value: ~Copyable>: @unchecked Sendable {
  private let lock: OpaquePointer
  private let condition: OpaquePointer
  private var value: Value

  init(_ value: consuming sending Value) {
    guard let lock = unsafe cuffd_lock_create(), let condition = unsafe cuffd_condition_create() else {
      fatalError("FaultRuntime: no memory for a lock of a few bytes")
    }
    unsafe self.lock = lock
    unsafe self.condition = condition
    self.value = value
  }

  deinit {
    unsafe cuffd_condition_destroy(condition)
    unsafe cuffd_lock_destroy(lock)
  }

  /// Runs `body` with the lock held. It must not fault on lazy memory.
  func withLock<Result>(_ body: (inout Value) -> Result) -> Result {
    unsafe cuffd_lock_acquire(lock)
    defer { unsafe cuffd_lock_release(lock) }
    return body(&value)
  }

  /// Lets everybody who waits look again.
  func announce() { unsafe cuffd_condition_announce(condition) }

  /// Lets one of them look again, where it does not matter which.
  func announceToOne() { unsafe cuffd_condition_announce_to_one(condition) }

  /// Runs `body` with the lock held, now and after each announcement, until it has a result; nil where none came in time.
  func wait<Result>(nanoseconds: UInt64 = .max, for body: (inout Value) -> Result?) -> Result? {
    let start = nanoseconds == .max ? 0 : cuffd_monotonic_nanoseconds()
    unsafe cuffd_lock_acquire(lock)
    defer { unsafe cuffd_lock_release(lock) }
    while true {
      if let result = body(&value) { return result }
      var left = UInt64.max
      if nanoseconds != .max {
        let passed = cuffd_monotonic_nanoseconds() - start
        guard passed < nanoseconds else { return nil }
        left = nanoseconds - passed
      }
      _ = unsafe cuffd_condition_wait(condition, lock, left)
    }
  }
}
