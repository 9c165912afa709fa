import CTestSupport
import Foundation
import TestSupport
import Testing

@testable import lazy_mem_demo

/// Tests what becomes of a report that cannot be written, and what a terminal gets to see.
@Suite("lazy-mem-demo, its output", .timeLimit(.minutes(6)))
struct OutputTests {
  /// Runs the command in a shell, which redirects its descriptors.
  private func shell(_ redirections: String, _ arguments: [String]) throws -> ProcessOutcome {
    try ProcessOutcome(
      of: URL(fileURLWithPath: "/bin/sh"),
      ["-c", "\"$0\" \"$@\" \(redirections)", DemoProcess.executable.path] + arguments)
  }

  private static let everyReport = [
    [], ["map", "--json"], ["doctor"], ["doctor", "--json"], ["seccomp-profile"], ["--help"], ["bench", "--help"],
    ["--version"], ["help"], ["--generate-completion-script", "bash"], ["bench", "--pages=64", "--rounds=1"],
    ["bench", "--pages=64", "--rounds=1", "--json"], ["stress", "--operations=5"],
    ["stress", "--operations=5", "--json"],
  ]

  @Test("Output that cannot be written is one line and 1", arguments: everyReport)
  func full(arguments: [String]) throws {
    let outcome = try shell("> /dev/full", arguments)
    #expect(outcome.code == 1)
    let lines = outcome.errors.split(separator: "\n").filter { !$0.hasPrefix("seed ") }
    #expect(lines == ["lazy-mem-demo: cannot write to standard output (ENOSPC: No space left on device)"])
  }

  @Test("A closed standard output is an error, and not the place where a region's memory lands", arguments: everyReport)
  func closed(arguments: [String]) throws {
    let outcome = try shell(">&-", arguments)
    #expect(outcome.code == 1)
    #expect(outcome.errors.contains("standard output"))
    #expect(outcome.errors.split(separator: "\n").count == 1)
  }

  @Test("With all three closed the work is done, and the status says that the report is lost")
  func allClosed() throws {
    #expect(try shell("<&- >&- 2>&-", []).code == 1)
    #expect(try shell("<&- 2>&-", []).output.contains("sha256 "))
  }

  @Test("A reader that goes away ends the command as it ends others", arguments: [["doctor"], ["--help"]])
  func brokenPipe(arguments: [String]) throws {
    let pipe = Pipe()
    try pipe.fileHandleForReading.close()
    let outcome = try DemoProcess.run(arguments, output: pipe.fileHandleForWriting)
    #expect(outcome.code == -SIGPIPE)
    #expect(outcome.errors == "")
  }

  @Test(
    "A name is printed so that a terminal takes no orders from it",
    arguments: [["map"], ["bench", "--html"], ["seccomp-profile", "--base"]])
  func names(command: [String]) throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("names-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(atPath: folder) }
    // Escape, newline, DEL, C1 as a byte and as a scalar, a byte that is not UTF-8, and a change of direction.
    let name = "a\\033[31m\\nb\\177\\233\\302\\233\\377\\342\\200\\256c"
    let shown = "a\\x1b[31m\\x0ab\\x7f\\x9b\\xc2\\x9b\\xff\\xe2\\x80\\xaec"
    let script = "name=$(printf '\(folder)/\(name)'); shift; \"$0\" \"$@\" \"$name\""
    func run() throws -> ProcessOutcome {
      try ProcessOutcome(
        of: URL(fileURLWithPath: "/bin/sh"), ["-c", script, DemoProcess.executable.path, ""] + command)
    }
    func expectMissing(_ verb: String) throws {
      let outcome = try run()
      #expect(outcome.code == 1)
      #expect(
        outcome.errors == "lazy-mem-demo: cannot \(verb) \(folder)/\(shown) (ENOENT: No such file or directory)\n")
    }
    func write(_ content: String) throws {
      _ = try ProcessOutcome(
        of: URL(fileURLWithPath: "/bin/sh"), ["-c", "printf '\(content)' > \"$(printf '\(folder)/\(name)')\""])
    }
    switch command[0] {
    case "map":
      try expectMissing("open")
      try write("content")
      let there = try run()
      #expect(there.code == 0)
      #expect(there.output.hasPrefix("file        \(folder)/\(shown)\nsha256 "))
    case "seccomp-profile":
      try expectMissing("read")
      try write(#"{"defaultAction": "SCMP_ACT_ERRNO"}"#)
      let there = try run()
      #expect(there.code == 0)
      #expect(there.output.contains("userfaultfd"))
    default:
      try FileManager.default.removeItem(atPath: folder)
      try expectMissing("write")
    }
  }

  @Test(
    "What the parser quotes is made visible as well",
    arguments: [["--\u{1b}[31m\n"], ["--order", "\u{1b}[31m\n"], ["--order=\u{1b}[31m\n"], ["a", "\u{1b}[31m\n"]])
  func quoted(arguments: [String]) throws {
    let outcome = try DemoProcess.run(arguments)
    #expect(outcome.code == 2)
    #expect(outcome.errors.contains("\\x1b[31m\\x0a"))
    #expect(!outcome.errors.contains("\u{1b}"))
  }

  @Test("Text stays as it is where it is harmless, and JSON stays JSON")
  func visible() throws {
    #expect(VisibleText.line("Grüße 日本 🙂 \\x") == "Grüße 日本 🙂 \\x")
    #expect(VisibleText.lines("a\nb\tc\r") == "a\nb\\x09c\\x0d")
    #expect(
      VisibleText.line("\u{2028}\u{2066}\u{200b}\u{ad}") == "\\xe2\\x80\\xa8\\xe2\\x81\\xa6\\xe2\\x80\\x8b\\xc2\\xad")
    let object = ["name": "\u{9b}\u{7f}\u{202e}\u{e0001}\n"]
    let text = VisibleText.json(String(decoding: try JSONEncoder().encode(object), as: UTF8.self))
    #expect(text.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value < 0x7f })
    #expect(try JSONDecoder().decode([String: String].self, from: Data(text.utf8)) == object)
  }

  @Test("Arguments of any bytes go through strings and back")
  func bytes() {
    for bytes: [UInt8] in [
      [], Array("plain".utf8), [0xff, 0x61, 0xc3], Array("\u{10ffff}\u{10ff80}\u{10ff7f}".utf8),
      [0xe2, 0x80, 0xae, 0x9b],
    ] {
      #expect(ArgumentBytes.bytes(of: ArgumentBytes.text(of: bytes)) == bytes)
    }
  }
}
