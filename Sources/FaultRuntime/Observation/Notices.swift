internal import CUFFD

/// The notices of a runtime: nothing has failed, but the runtime does without something, or does it differently.
struct Notices: Sendable {
  private let hook: (@Sendable (String) -> Void)?

  /// - Parameter hook: receives the lines. Where it is nil, the lines go to standard error.
  init(hook: (@Sendable (String) -> Void)?) { self.hook = hook }

  /// Passes one line to the hook; without a hook, writes it to standard error.
  func say(_ text: String) {
    if let hook { return hook(text) }
    writeToStandardError(text)
  }
}

/// Writes one line to standard error, which says where it comes from.
func writeToStandardError(_ text: String) {
  let line = Array("FaultRuntime: \(text)\n".utf8)
  _ = unsafe line.withUnsafeBytes { unsafe cuffd_write_error($0.baseAddress!, $0.count) }
}
