internal import CUFFD

/// Reports why pages could not be produced. Any thread may use it.
struct FailureReporter: Sendable {
  let onFailure: (@Sendable (PageFailure) -> Void)?
  let withoutPoison: PoisonFallback

  /// Records a failure, and then calls the hook. This has to happen before the access fails, because the program may
  /// not survive that.
  func report(_ cause: any Error, atPage page: UInt, of region: Region) {
    let room = cuffd_stack_room()
    if room < StackNeed.ofFailure || onFailure != nil && room < StackNeed.ofHook { cuffd_end_without_stack() }
    region.report(cause, atPage: page, to: onFailure)
  }

  /// Reports that a page whose failure has been reported cannot be poisoned. Called on threads of the runtime only.
  func cannotPoison(_ page: UInt, of region: Region) {
    // Closing removes the memory, which ends the access in the same way as poison would.
    guard !region.isClosing || region.isLeftBehind else { return }
    // The text of the error is code of the program, and may need what waits for this thread.
    let offset = region.originalOffset(of: page)
    let address = UInt64(region.address(of: offset))
    let isExplained = region.explainsFailures && cuffd_last_words(region.memory.failureSignal, address)
    if !isExplained, let failure = region.failures.failure(at: offset) {
      let cause = region.explainsFailures ? "nothing has made the text of the error" : "explainsFailures is false"
      writeToStandardError("\(failure.withCause(cause))")
    }
    let reason = "this kernel cannot poison a page (Linux 6.6 can)"
    switch withoutPoison.kind {
    case .abort:
      fatalError(
        """
        FaultRuntime: \(reason), and going on would show zeros to the program; PoisonFallback.keepWaiting is the \
        other choice
        """)
    case .keepWaiting:
      writeToStandardError("\(reason), so the threads that touch it wait until it is retried or its region closed")
    }
  }
}
