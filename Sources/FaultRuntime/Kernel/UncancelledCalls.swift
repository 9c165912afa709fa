internal import CUFFD

/// Runs `body` while the calling thread cannot be cancelled (`pthread_cancel(3)`). A cancellation that comes meanwhile
/// takes place when the thread meets its next cancellation point afterwards.
///
/// A cancelled thread leaves its functions without their `defer` statements, and releases nothing that they hold. Many
/// system calls are points where that may happen, also those of providers and of closures of the program.
@inline(__always)
func withoutCancellation<Result: ~Copyable, Failure: Error>(
  _ body: () throws(Failure) -> Result
) throws(Failure) -> Result {
  let before = cuffd_cancellation_off_for_call()
  defer { cuffd_cancellation_restore(before) }
  return try body()
}
