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
func withObjectMadeUnderHeldSignals<Object: AnyObject, Result>(
  _ make: () -> Object, _ body: (Object) -> Result
) -> Result {
  let object = unsafe holdingSignals { unsafe Unmanaged.passRetained(make()) }
  defer { holdingSignals { unsafe object.release() } }
  return unsafe object._withUnsafeGuaranteedRef { body($0) }
}
