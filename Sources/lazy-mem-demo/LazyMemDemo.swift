import ArgumentParser
import FaultRuntime
import Glibc

/// The command. It turns each failure into one line and an exit code.
@main
struct LazyMemDemo: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "lazy-mem-demo",
    abstract: "Lazy memory, served page by page through userfaultfd.",
    discussion: """
      Exit codes: 0 done, 1 the work failed, 2 wrong usage, 3 the host does not allow userfaultfd.
      """,
    subcommands: [
      MapCommand.self, BenchCommand.self, StressCommand.self, DoctorCommand.self, SeccompProfileCommand.self,
    ],
    defaultSubcommand: MapCommand.self
  )

  static func main() {
    do {
      var command = try parseAsRoot()
      try command.run()
    } catch let error as CommandFailure {
      Diagnostics.fail(error.message, .workFailed)
    } catch let error as FaultRuntimeError {
      Diagnostics.fail(
        error.description, error.code == .userfaultfdUnavailable ? .hostForbids : .workFailed)
    } catch let error as FileProviderError {
      Diagnostics.fail(error.description, .workFailed)
    } catch {
      let text = fullMessage(for: error)
      // A request for help is not an error.
      guard exitCode(for: error) != .success else {
        print(text)
        return
      }
      Diagnostics.write(text + "\n")
      Glibc.exit(ProcessExit.wrongUsage.rawValue)
    }
  }
}

/// The exit codes that scripts can rely on.
enum ProcessExit: CInt {
  case workFailed = 1
  case wrongUsage = 2
  case hostForbids = 3
}

/// A failure of the work that has no better type.
struct CommandFailure: Error {
  var message: String
}

/// Messages on standard error.
enum Diagnostics {
  static func write(_ text: String) { _ = writeAll(text, to: STDERR_FILENO) }

  static func fail(_ message: String, _ code: ProcessExit) -> Never {
    write("lazy-mem-demo: \(message)\n")
    Glibc.exit(code.rawValue)
  }

  /// Ends the process from a thread that must not run exit handlers.
  static func failImmediately(_ message: String) -> Never {
    ProgressBar.erase()
    write("lazy-mem-demo: \(message)\n")
    _exit(ProcessExit.workFailed.rawValue)
  }
}

/// Writes all of `text`. Returns false if a write fails.
func writeAll(_ text: String, to descriptor: CInt) -> Bool {
  var rest = Array(text.utf8)[...]
  while !rest.isEmpty {
    let written = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
    guard written > 0 else { return false }
    rest = rest.dropFirst(written)
  }
  return true
}

/// Prints a line. Throws an error if that fails, because a full disk must not look like success.
func printLine(_ text: String) throws(CommandFailure) {
  guard writeAll(text + "\n", to: STDOUT_FILENO) else {
    throw CommandFailure(message: "cannot write to standard output")
  }
}
