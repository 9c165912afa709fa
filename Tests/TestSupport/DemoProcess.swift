import CTestSupport
package import Foundation

/// The command `lazy-mem-demo` as a user runs it: a process of its own.
package enum DemoProcess {
  /// The executable that was built beside the tests.
  package static let executable = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    .deletingLastPathComponent().appendingPathComponent("lazy-mem-demo")

  package static func openExecutable() -> CInt { unsafe open(executable.path, O_RDONLY | O_CLOEXEC) }

  /// Executes the command in this process, a child of the tests.
  package static func become(_ descriptor: CInt, _ first: String, _ second: String) {
    unsafe cts_execute(descriptor, first, second)
  }

  /// Runs the command, and waits for its end. What the command writes to a handle of the caller is not in the outcome.
  package static func run(
    _ arguments: [String], output: FileHandle? = nil, errors: FileHandle? = nil,
    whileRunning: (Process) throws -> Void = { _ in }
  ) throws -> ProcessOutcome {
    try ProcessOutcome(of: executable, arguments, output: output, errors: errors, whileRunning: whileRunning)
  }

  package static func run(_ arguments: String...) throws -> ProcessOutcome { try run(arguments) }
}
