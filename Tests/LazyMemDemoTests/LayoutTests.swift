import CTestSupport
import Foundation
import TestSupport
import Testing

@testable import lazy_mem_demo

/// Tests that text fits narrow terminals, and that lines are broken between words only.
@Suite("lazy-mem-demo, its text in narrow terminals", .timeLimit(.minutes(6)))
struct LayoutTests {
  private func run(columns: Int, _ arguments: [String]) throws -> ProcessOutcome {
    try ProcessOutcome(
      of: URL(fileURLWithPath: "/usr/bin/env"), ["COLUMNS=\(columns)", DemoProcess.executable.path] + arguments)
  }

  private func words(_ text: String) -> [Substring] { text.split { $0 == " " || $0 == "\n" } }

  @Test("Every line fits, and the words are the same as in a wide one", arguments: [60, 80])
  func doctor(columns: Int) throws {
    let wide = try run(columns: 100, ["doctor"]).output
    let narrow = try run(columns: columns, ["doctor"]).output
    #expect(words(narrow) == words(wide))
    // Commands stay in one line, so that they can be copied.
    for line in narrow.split(separator: "\n") where !line.hasPrefix("    command ") { #expect(line.count <= columns) }
  }

  @Test("A table that is too wide becomes several with the same rows", arguments: [60, 80, 100])
  func bench(columns: Int) throws {
    let outcome = try run(columns: columns, ["bench", "--pages", "64", "--rounds", "1"])
    #expect(outcome.code == 0)
    let lines = outcome.output.split(separator: "\n")
    for line in lines { #expect(line.count <= columns, "\(line)") }
    for head in ["fault", "p50", "p90", "p99", "p99.9", "page", "second", "kernel", "sigsegv", "+-%"] {
      #expect(lines.contains { $0.hasPrefix("contender ") && words(String($0)).contains(Substring(head)) }, "\(head)")
    }
    // The first line of a contender is what it means; then there is one in each table.
    let tables = lines.filter { $0.hasPrefix("contender ") }.count
    #expect(tables == (columns == 60 ? 3 : columns == 80 ? 2 : 1))
    #expect(lines.filter { $0.hasPrefix("event-loop-scheduler-wide ") }.count == tables + 1)
  }

  @Test("The width is that of the terminal", arguments: [60, 80])
  func terminal(columns: UInt16) throws {
    let (outcome, shown) = try DemoProcess.runOnTerminal(["--threads", "-1"], columns: columns)
    #expect(outcome.code == 2)
    let lines = shown.split(separator: "\r\n")
    #expect(lines.contains { $0.hasPrefix("Usage: ") })
    for line in lines { #expect(line.count <= Int(columns), "\(line)") }
  }

  @Test("Words are never broken, and what must stay together does")
  func wrapped() {
    let layout = TextLayout(columns: 40)
    #expect(layout.wrapped("a " + String(repeating: "x", count: 60) + " b", indent: 2).map(\.count) == [1, 62, 3])
    let glued = TextLayout.unbroken("p50 1.0 us")
    #expect(
      layout.wrapped(String(repeating: glued + " ", count: 5), indent: 0) == [
        "p50 1.0 us p50 1.0 us p50 1.0 us", "p50 1.0 us p50 1.0 us",
      ])
    // Where the name leaves too little room, the text is below it.
    #expect(
      layout.list([("event-loop-scheduler-wide", "handler thread")]) == "event-loop-scheduler-wide\n  handler thread")
  }
}
