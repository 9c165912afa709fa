import FoundationEssentials
import Glibc

/// How wide text may be.
enum Terminal {
  /// Lines are not longer than this, however wide the terminal is. It is also the width where no terminal is.
  static let widest = 100
  private static let narrowest = 40

  /// Returns the columns for text on a descriptor: those of the terminal, or those of the variable COLUMNS.
  static func columns(of descriptor: CInt = STDOUT_FILENO) -> Int {
    var size = winsize()
    if unsafe ioctl(descriptor, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 {
      return min(widest, max(narrowest, Int(size.ws_col)))
    }
    let told = ProcessInfo.processInfo.environment["COLUMNS"].flatMap { Int($0) } ?? widest
    return min(widest, max(narrowest, told))
  }
}
