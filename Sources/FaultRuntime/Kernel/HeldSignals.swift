internal import CUFFD

/// Runs `body` while every signal except those of faults is blocked on the calling thread. A signal handler of the
/// program may touch lazy memory, and must not need a lock that is held by the very thread that it interrupts.
@inline(__always)
func holdingSignals<Result: ~Copyable, Failure: Error>(
  _ body: () throws(Failure) -> Result
) throws(Failure) -> Result {
  var before = cuffd_signal_mask()
  unsafe cuffd_signals_hold(&before)
  defer { unsafe cuffd_signals_release(&before) }
  return try body()
}

/// Ends a value while signals are held, as ``holdingSignals(_:)`` holds them.
@inline(__always)
func endHoldingSignals<Value: ~Copyable>(_ value: consuming Value) {
  var before = cuffd_signal_mask()
  unsafe cuffd_signals_hold(&before)
  defer { unsafe cuffd_signals_release(&before) }
  _ = consume value
}

/// Runs `body` with an object that is made and released while signals are held. The allocator has locks too: a signal
/// handler that interrupts the thread inside of it must not wait for another thread that needs the same lock.
@inline(__always)
func withObjectMadeUnderHeldSignals<Object: AnyObject, Result, Failure: Error>(
  _ make: () -> Object, _ body: (Object) throws(Failure) -> Result
) throws(Failure) -> Result {
  let object = unsafe holdingSignals { unsafe Unmanaged.passRetained(make()) }
  defer { holdingSignals { unsafe object.release() } }
  let outcome = unsafe object._withUnsafeGuaranteedRef { object in
    Swift.Result { () throws(Failure) in try body(object) }
  }
  return try outcome.get()
}

/// Signals that a call holds, and lets come again for a while.
struct HeldSignals: ~Copyable {
  private var before = cuffd_signal_mask()

  @inline(__always)
  init() { unsafe cuffd_signals_hold(&before) }

  deinit {
    unsafe withUnsafePointer(to: before) { unsafe cuffd_signals_release($0) }
  }

  /// Runs `body` while signals may come. It may meet faults and wait.
  @inline(__always)
  mutating func pause<Failure: Error>(_ body: () throws(Failure) -> Void) throws(Failure) {
    unsafe cuffd_signals_release(&before)
    defer { unsafe cuffd_signals_hold(&before) }
    try body()
  }
}

/// Does the same as the other `holdingSignals`, for a `body` that lets the signals come again for a while.
@inline(__always)
func holdingSignals<Result, Failure: Error>(
  _ body: (inout HeldSignals) throws(Failure) -> Result
) throws(Failure) -> Result {
  var signals = HeldSignals()
  return try body(&signals)
}
