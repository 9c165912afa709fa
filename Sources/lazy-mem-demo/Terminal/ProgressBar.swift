import Glibc

/// A line on standard error that says how far the work is, shown only if that is a terminal.
struct ProgressBar {
  private static let widest = 30

  static func onTerminal() -> ProgressBar? {
    isatty(STDERR_FILENO) == 1 ? ProgressBar() : nil
  }

  func show(_ label: String, _ fraction: Double) {
    // The brackets, the blanks and the percentage take ten columns. A line that wraps could not be erased.
    let width = max(4, min(Self.widest, Terminal.columns(of: STDERR_FILENO) - label.count - 10))
    let filled = Int(fraction * Double(width))
    let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: width - filled)
    show("\(label) [\(bar)] \(Int(fraction * 100)) %")
  }

  func show(_ text: String) {
    let fitting = VisibleText.line(text).prefix(max(1, Terminal.columns(of: STDERR_FILENO) - 1))
    Diagnostics.writeUnchanged("\r\(fitting)\u{1b}[K")
  }

  func finish() { Self.erase() }

  static func erase() {
    if isatty(STDERR_FILENO) == 1 { Diagnostics.writeUnchanged("\r\u{1b}[K") }
  }
}
