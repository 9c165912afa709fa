import CTestSupport
package import Foundation
import Testing

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

  /// Runs the command with a terminal for its errors. Returns the outcome, and what the terminal shows.
  package static func runOnTerminal(
    _ arguments: [String], columns: UInt16 = 0
  ) throws -> (outcome: ProcessOutcome, shown: String) {
    var side: CInt = -1
    let terminal = unsafe cts_open_terminal(&side)
    try #require(terminal >= 0)
    defer { close(terminal) }
    defer { close(side) }
    if columns > 0 {
      var size = winsize(ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0)
      try #require(unsafe ioctl(side, UInt(TIOCSWINSZ), &size) == 0)
    }
    let outcome = try run(arguments, errors: FileHandle(fileDescriptor: side, closeOnDealloc: false))
    // The output waits in the terminal, and no process writes any more.
    var text = [UInt8](repeating: 0, count: 16384)
    let count = unsafe Foundation.read(terminal, &text, text.count)
    return (outcome, String(decoding: text.prefix(max(0, count)), as: UTF8.self))
  }

  package static func run(_ arguments: String...) throws -> ProcessOutcome { try run(arguments) }
}
