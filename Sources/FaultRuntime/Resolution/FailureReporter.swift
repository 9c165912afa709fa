internal import CUFFD

/// Reports why pages could not be produced. Any thread may use it.
struct FailureReporter: Sendable {
  let onFailure: (@Sendable (PageFailure) -> Void)?
  let withoutPoison: PoisonFallback

  /// Records a failure, and then calls the hook. This has to happen before the access fails, because the program may
  /// not survive that.
  func report(_ cause: any Error, atPage page: UInt, of region: Region) {
    let room = cuffd_stack_room()
    if room < StackNeed.ofFailure || onFailure != nil && room < StackNeed.ofText { cuffd_end_without_stack() }
    region.report(cause, atPage: page, to: onFailure)
  }

  /// Reports that a page whose failure has been reported cannot be poisoned.
  func cannotPoison(_ page: UInt, of region: Region) {
    // Closing removes the memory, which ends the access in the same way as poison would.
    guard !region.isClosing || region.isLeftBehind else { return }
    _ = region.failures.explain(region.originalOffset(of: page))
    let reason = "FaultRuntime: this kernel cannot poison a page (Linux 6.6 can)"
    switch withoutPoison.kind {
    case .abort:
      fatalError(
        "\(reason), and going on would show zeros to the program; PoisonFallback.keepWaiting is the other choice")
    case .keepWaiting:
      let line = Array("\(reason), so the threads that touch it wait until it is retried or its region closed\n".utf8)
      _ = unsafe line.withUnsafeBytes { unsafe cuffd_write_error($0.baseAddress!, $0.count) }
    }
  }
}
