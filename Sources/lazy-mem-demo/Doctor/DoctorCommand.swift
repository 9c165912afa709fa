import ArgumentParser
import FaultRuntime
import Glibc

/// `lazy-mem-demo doctor`: reports what the host allows, why it does not allow more, and what would change that.
struct DoctorCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Says what this host allows, why not more, and which command would allow it.",
    discussion: """
      Every way to a userfaultfd is tried as this user, in this container, under this filter. Nothing is changed: \
      the commands are for you to judge, each with its cost. The exit code is 0 where the delivery 'auto' works in \
      some way, otherwise 1.
      """
  )

  @Flag(help: "Print one JSON object on standard output.")
  var json = false

  func run() throws {
    let report = HostReport()
    if json {
      try Output.printJSON(try DoctorDocument(report).json())
    } else {
      try Output.printLine(DoctorText(report).text)
    }
    if !report.autoWorks { Glibc.exit(ProcessExit.workFailed.rawValue) }
  }
}
