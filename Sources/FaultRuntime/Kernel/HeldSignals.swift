internal import CUFFD

/// Every signal but those of faults waits on the calling thread while `body` runs: a handler of the program that touches lazy
/// memory must not find a lock taken by the very thread that it interrupts.
@inline(__always)
func holdingSignals<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
  var before = cuffd_signal_mask()
  unsafe cuffd_signals_hold(&before)
  defer { unsafe cuffd_signals_release(&before) }
  return try body()
}
