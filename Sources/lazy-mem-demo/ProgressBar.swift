import Glibc

/// A progress bar on standard error, shown only if that is a terminal.
struct ProgressBar {
  private static let width = 30

  static func onTerminal() -> ProgressBar? {
    isatty(STDERR_FILENO) == 1 ? ProgressBar() : nil
  }

  func show(_ label: String, _ fraction: Double) {
    let filled = Int(fraction * Double(Self.width))
    let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: Self.width - filled)
    Diagnostics.write("\r\(label) [\(bar)] \(Int(fraction * 100)) %\u{1b}[K")
  }

  func finish() { Self.erase() }

  static func erase() {
    if isatty(STDERR_FILENO) == 1 { Diagnostics.write("\r\u{1b}[K") }
  }
}
