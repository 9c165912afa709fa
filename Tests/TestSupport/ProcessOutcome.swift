package import Foundation
import Testing

/// How a process ended, and what it wrote.
package struct ProcessOutcome: Sendable {
  /// The exit code, or minus the signal that ended the process.
  package var code: Int32
  package var output: String
  package var errors: String

  package init(code: Int32, output: String, errors: String) {
    self.code = code
    self.output = output
    self.errors = errors
  }

  /// Runs a program, and waits for its end. What the program writes to a handle of the caller is not in the outcome.
  package init(
    of executable: URL, _ arguments: [String], output: FileHandle? = nil, errors: FileHandle? = nil,
    whileRunning: (Process) throws -> Void = { _ in }
  ) throws {
    let process = Process()
    process.executableURL = executable
    process.arguments = arguments
    let outputPipe = Pipe()
    let errorPipe = Pipe()
    if let output { process.standardOutput = output } else { process.standardOutput = outputPipe }
    if let errors { process.standardError = errors } else { process.standardError = errorPipe }
    try process.run()
    try whileRunning(process)
    // Both pipes are read at the same time, because a pipe that is not read would block a process with much output.
    let errorText = errors == nil ? Later { [end = errorPipe.fileHandleForReading] in Self.text(from: end) } : nil
    self.output = output == nil ? Self.text(from: outputPipe.fileHandleForReading) : ""
    process.waitUntilExit()
    self.errors = try errorText?.result() ?? ""
    code = process.terminationReason == .uncaughtSignal ? -process.terminationStatus : process.terminationStatus
  }

  private static func text(from pipe: FileHandle) -> String {
    String(decoding: pipe.readDataToEndOfFile(), as: UTF8.self)
  }

  /// Returns the one JSON object that the output is.
  package func object() throws -> [String: Any] {
    try #require(JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])
  }
}
