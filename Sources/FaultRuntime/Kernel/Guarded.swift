internal import CUFFD

/// A value behind a lock, for what is off the fault path.
///
/// Not `Synchronization.Mutex`: ThreadSanitizer does not see that lock on Linux, and reports every use of it as a race.
@safe
// Safe to share: the value is only reached while the lock is held.
final class Guarded<Value: Sendable>: @unchecked Sendable {
  private let lock: OpaquePointer
  private var value: Value

  init(_ value: Value) {
    guard let created = unsafe cuffd_lock_create() else {
      fatalError("FaultRuntime: no memory for a lock of a few bytes")
    }
    unsafe lock = created
    self.value = value
  }

  deinit {
    unsafe cuffd_lock_destroy(lock)
  }

  /// Runs `body` with the lock held. It must not fault on lazy memory.
  func withLock<Result>(_ body: (inout Value) -> Result) -> Result {
    unsafe cuffd_lock_acquire(lock)
    defer { unsafe cuffd_lock_release(lock) }
    return body(&value)
  }
}
