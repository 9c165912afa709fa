import ArgumentParser
import Glibc

/// The command. Each benchmark with a threshold judges itself, so that a regression makes a script fail.
@main
struct FaultBenchmarks: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fault-benchmarks",
    abstract: "Measures FaultRuntime against a hand-written C handler, and against the promises that it makes.",
    discussion: """
      Exit codes: 0 every threshold holds, 1 one does not (or the benchmark could not run), 64 wrong usage. Each \
      failure is one line on standard error.
      """,
    subcommands: [
      SpeedCommand.self, AllocationsCommand.self, MemoryCommand.self, AppendCommand.self, PopulateCommand.self,
      StagesCommand.self, AllCommand.self,
    ]
  )
}

/// Reports that a benchmark could not be carried out, which must never look like a benchmark that passed.
struct BenchmarkError: Error, CustomStringConvertible {
  var description: String

  init(_ description: String) { self.description = description }
}

/// Messages on standard error.
enum Diagnostics {
  static func write(_ line: String) {
    var text = line + "\n"
    text.withUTF8 { bytes in
      _ = unsafe Glibc.write(STDERR_FILENO, bytes.baseAddress, bytes.count)
    }
  }

  /// Ends the process. Threads of the runtime call this, because they cannot throw.
  static func failImmediately(_ message: String) -> Never {
    write("fault-benchmarks: \(message)")
    _exit(1)
  }
}
