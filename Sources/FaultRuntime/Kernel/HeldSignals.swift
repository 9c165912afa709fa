internal import CUFFD

/// Runs `body` while every signal except those of faults is blocked on the calling thread. A signal handler of the
/// program may touch lazy memory, and must not need a lock that is held by the very thread that it interrupts.
@inline(__always)
func holdingSignals<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
  var before = cuffd_signal_mask()
  unsafe cuffd_signals_hold(&before)
  defer { unsafe cuffd_signals_release(&before) }
  return try body()
}
