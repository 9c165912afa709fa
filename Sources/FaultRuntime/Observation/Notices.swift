internal import CUFFD

/// What a runtime has to say that is no error: that it does without something, or differently.
struct Notices: Sendable {
  private let hook: (@Sendable (String) -> Void)?

  /// - Parameter hook: takes the lines; standard error takes them where it is nil.
  init(hook: (@Sendable (String) -> Void)?) { self.hook = hook }

  /// To the hook, or in one line on standard error.
  func say(_ text: String) {
    if let hook { return hook(text) }
    let line = Array("FaultRuntime: \(text)\n".utf8)
    _ = unsafe line.withUnsafeBytes { unsafe cuffd_write_error($0.baseAddress!, $0.count) }
  }
}
