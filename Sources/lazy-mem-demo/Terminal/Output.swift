import FaultRuntime
import Glibc

/// A failure of the work that has no better type.
struct CommandFailure: Error {
  var message: String
}

/// What the command prints on standard output. A full disk must not look like success, so each function throws an
/// error if writing fails.
enum Output {
  static func printLine(_ text: String) throws(CommandFailure) { try write(VisibleText.lines(text) + "\n") }

  static func printJSON(_ text: String) throws(CommandFailure) { try write(VisibleText.json(text) + "\n") }

  /// Closes standard output. Some file systems report only now that bytes were lost.
  static func finish() throws(CommandFailure) {
    guard close(STDOUT_FILENO) == 0 || errno == EBADF else { throw failure(KernelErrno(rawValue: errno)) }
    // The number stays taken, as in `StandardDescriptors`.
    StandardDescriptors.openClosedOnes()
  }

  private static func write(_ text: String) throws(CommandFailure) {
    if let errno = writeAll(text, to: STDOUT_FILENO) { throw failure(errno) }
  }

  private static func failure(_ errno: KernelErrno) -> CommandFailure {
    CommandFailure(message: "cannot write to standard output (\(errno): \(errno.explanation))")
  }
}

/// Prints a profile, which is JSON.
func printLine(_ profile: String) throws(CommandFailure) { try Output.printJSON(profile) }

/// Messages on standard error.
enum Diagnostics {
  static func write(_ text: String) { writeUnchanged(VisibleText.lines(text)) }

  /// Writes a text with control characters of the command's own, for what moves on a terminal.
  static func writeUnchanged(_ text: String) { _ = writeAll(text, to: STDERR_FILENO) }

  static func fail(_ message: String, _ code: ProcessExit) -> Never {
    say(message)
    Glibc.exit(code.rawValue)
  }

  /// Writes a message as one line, whatever names are in it. On a terminal, the line is broken between words.
  static func say(_ message: String) {
    let line = "lazy-mem-demo: \(VisibleText.line(message))"
    let layout = TextLayout(columns: Terminal.columns(of: STDERR_FILENO))
    writeUnchanged((isatty(STDERR_FILENO) == 1 ? layout.wrapped(line) : line) + "\n")
  }

  /// Ends the process from a thread that must not run exit handlers.
  static func failImmediately(_ message: String) -> Never {
    ProgressBar.erase()
    say(message)
    _exit(ProcessExit.workFailed.rawValue)
  }
}

/// Writes all of `text`. Returns the reason if a write fails.
func writeAll(_ text: String, to descriptor: CInt) -> KernelErrno? {
  var rest = Array(text.utf8)[...]
  while !rest.isEmpty {
    let written = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
    if written > 0 {
      rest = rest.dropFirst(written)
    } else if written == 0 {
      return KernelErrno(rawValue: EIO)
    } else if errno == EAGAIN {
      // Another program has made the descriptor non-blocking. The command waits as for any other descriptor.
      var wait = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
      _ = unsafe poll(&wait, 1, -1)
    } else if errno != EINTR {
      return KernelErrno(rawValue: errno)
    }
  }
  return nil
}
