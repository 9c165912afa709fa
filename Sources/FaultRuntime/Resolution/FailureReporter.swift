internal import CUFFD

/// Says why pages could not be produced, whichever thread finds out.
struct FailureReporter: Sendable {
  let onFailure: (@Sendable (PageFailure) -> Void)?
  let withoutPoison: PoisonFallback

  init(_ configuration: FaultRuntimeConfiguration) {
    onFailure = configuration.onFailure
    withoutPoison = configuration.poisonFallback
  }

  /// Keeps a failure, and tells the hook. Before the access fails, because the program may not survive that.
  func report(_ cause: any Error, atPage page: UInt, of region: Region) {
    region.report(cause, atPage: page, to: onFailure)
  }

  /// A page that has been reported cannot be poisoned.
  func cannotPoison(_ page: UInt, of region: Region) {
    // Closing takes the memory away, which ends the access as poison would.
    guard !region.isClosing || region.isLeftBehind else { return }
    _ = region.failures.explain(region.originalOffset(of: page))
    let reason = "FaultRuntime: this kernel cannot poison a page (Linux 6.6 can)"
    switch withoutPoison {
    case .abort:
      fatalError(
        "\(reason), and going on would show zeros to the program; PoisonFallback.keepWaiting is the other choice")
    case .keepWaiting:
      let line = Array("\(reason), so the threads that touch it wait until it is retried or its region closed\n".utf8)
      _ = unsafe line.withUnsafeBytes { unsafe cuffd_write_error($0.baseAddress!, $0.count) }
    }
  }
}
