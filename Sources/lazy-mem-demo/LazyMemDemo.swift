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
    version: version,
    subcommands: [
      MapCommand.self, BenchCommand.self, StressCommand.self, DoctorCommand.self, SeccompProfileCommand.self,
    ],
    defaultSubcommand: MapCommand.self
  )

  /// The version of the library and of this command, as CHANGELOG.md has it; "-dev" until it is released.
  static let version = "0.1.0-dev"

  static func main() {
    StandardDescriptors.openClosedOnes()
    let arguments = ArgumentBytes.ofThisProcess
    do {
      try ArgumentAdvice.check(arguments)
      var command = try parseAsRoot(arguments)
      try StandardDescriptors.checkOutput()
      try command.run()
      try Output.finish()
    } catch {
      end(error, arguments)
    }
  }

  private static func end(_ error: any Error, _ arguments: [String]) -> Never {
    switch error {
    case let error as CommandFailure:
      Diagnostics.fail(error.message, .workFailed)
    case let error as UsageFailure:
      Diagnostics.fail(error.message, .wrongUsage)
    case let error as FaultRuntimeError:
      Diagnostics.fail(error.description, error.code == .userfaultfdUnavailable ? .hostForbids : .workFailed)
    case let error as FileProviderError:
      Diagnostics.fail(error.description, .workFailed)
    default:
      endParsing(error, arguments)
    }
  }

  /// Ends the command with what the parser says: help, the version, or what is wrong with the arguments.
  private static func endParsing(_ error: any Error, _ arguments: [String]) -> Never {
    let text = fullMessage(for: error)
    guard exitCode(for: error) == .success else {
      let quoting = ArgumentAdvice.quoting(arguments, in: text)
      Diagnostics.write(TextLayout.usage(quoting, for: STDERR_FILENO) + "\n")
      Glibc.exit(ProcessExit.wrongUsage.rawValue)
    }
    // A request for help is not an error, and help that cannot be written is one.
    do {
      try Output.printLine(TextLayout.usage(text, for: STDOUT_FILENO))
      try Output.finish()
    } catch {
      Diagnostics.fail(error.message, .workFailed)
    }
    Glibc.exit(0)
  }
}

/// The exit codes that scripts can rely on.
enum ProcessExit: CInt {
  case workFailed = 1
  case wrongUsage = 2
  case hostForbids = 3
}
