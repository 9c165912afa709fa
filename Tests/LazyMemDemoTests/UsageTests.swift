import Foundation
import TestSupport
import Testing

@testable import lazy_mem_demo

/// Tests what the command says of arguments: numbers, sizes, words that are wrong, and contradictions.
@Suite("lazy-mem-demo, its arguments", .timeLimit(.minutes(6)))
struct UsageTests {
  @Test(
    "A number that is out of range is said to be that, also if it is negative",
    arguments: [
      ["map", "--threads", "-1"], ["--threads", "-1"], ["--threads=-1"], ["--threads", "257"],
      ["--threads", "99999999999999999999"], ["--touch", "-1k"], ["--touch", "0"], ["bench", "--threads", "-1"],
      ["bench", "--pages", "-5"], ["bench", "--pages", "99999999999"], ["bench", "--rounds", "-1"],
      ["bench", "--size", "-1"], ["bench", "--size", "9E"], ["stress", "--threads", "-1"],
      ["stress", "--seconds", "-1"],
      ["stress", "--seconds", "nan"], ["stress", "--operations", "-1"], ["stress", "--seed", "-1"],
      ["stress", "--patience", "-1"],
    ])
  func range(arguments: [String]) throws {
    let outcome = try DemoProcess.run(arguments)
    #expect(outcome.code == 2)
    #expect(outcome.output == "")
    #expect(outcome.errors.contains("out of range"))
    #expect(outcome.errors.contains("--" + String(arguments.last { $0.hasPrefix("--") }!.dropFirst(2).prefix(4))))
  }

  @Test("What is no number is said to be that", arguments: [["--threads", "two"], ["bench", "--pages", "1.5"]])
  func noNumber(arguments: [String]) throws {
    let outcome = try DemoProcess.run(arguments)
    #expect(outcome.code == 2)
    #expect(outcome.errors.contains("it is not a whole number from 1 to"))
  }

  @Test(
    "A command that was mistyped is no file",
    arguments: [
      (["becnh"], "bench"), (["bench-"], "bench"), (["Doctor"], "doctor"), (["doc"], "doctor"), (["sterss"], "stress"),
      (["mpa"], "map"), (["becnh", "--pages", "3"], "bench"), (["becnh", "--help"], "bench"),
      (["version"], "--version"),
      (["seccomp-profil"], "seccomp-profile"), (["--json", "becnh"], "bench"),
    ])
  func mistyped(arguments: [String], meant: String) throws {
    let outcome = try DemoProcess.run(arguments)
    #expect(outcome.code == 2)
    #expect(outcome.output == "")
    let word = arguments.first { !$0.hasPrefix("-") } ?? ""
    #expect(outcome.errors == "lazy-mem-demo: no such file or command: \(word); did you mean \(meant)?\n")
  }

  @Test("A file that is missing is not taken for a command")
  func missing() throws {
    for (arguments, text) in [
      (["weights.bin"], "no such file or command: weights.bin\n"), (["map", "becnh"], "cannot open becnh (ENOENT"),
      (["./becnh"], "cannot open ./becnh (ENOENT"),
    ] {
      let outcome = try DemoProcess.run(arguments)
      #expect(outcome.code == 1)
      #expect(outcome.errors.hasPrefix("lazy-mem-demo: " + text))
    }
  }

  @Test(
    "Nothing in place of a name or a value is wrong usage",
    arguments: [
      ([""], "the name of the file is empty"), (["map", ""], "the name of the file is empty"),
      (["bench", "--html", ""], "the value of --html is empty"),
      (["bench", "--html="], "the value of --html is empty"),
      (["seccomp-profile", "--base", ""], "the value of --base is empty"),
      (["--order", ""], "the value of --order is empty"),
    ])
  func empty(arguments: [String], reason: String) throws {
    let outcome = try DemoProcess.run(arguments)
    #expect(outcome.code == 2)
    #expect(outcome.errors.hasPrefix("lazy-mem-demo: \(reason)"))
  }

  @Test(
    "Options that contradict each other are wrong usage",
    arguments: [
      ["--delivery", "sigsegv", "--descriptor", "full"], ["--descriptor", "user-mode-only", "--delivery", "sigsegv"],
      ["bench", "--pages", "64", "--size", "64k"], ["stress", "--seconds", "1", "--operations", "1"],
      ["seccomp-profile", "--rule", "--base", "x"],
    ])
  func contradictions(arguments: [String]) throws {
    let outcome = try DemoProcess.run(arguments)
    #expect(outcome.code == 2)
    #expect(outcome.output == "")
    #expect(outcome.errors.contains("leave") || outcome.errors.contains("give one"))
  }

  @Test("The version is that of the changelog, and every command tells it")
  func version() throws {
    for arguments in [["--version"], ["bench", "--version"], ["map", "--version"]] {
      let outcome = try DemoProcess.run(arguments)
      #expect(outcome.code == 0)
      #expect(outcome.output == LazyMemDemo.version + "\n")
    }
    let changes = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("CHANGELOG.md")
    // An ordinary user may not be able to enter the folder of the sources.
    guard let text = try? String(contentsOf: changes, encoding: .utf8) else { return }
    let heading = try #require(text.split(separator: "\n").first { $0.hasPrefix("## ") })
    #expect(heading == "## Unreleased" ? LazyMemDemo.version.hasSuffix("-dev") : heading.contains(LazyMemDemo.version))
  }

  @Test(
    "Sizes are read as people write them",
    arguments: [
      ("4096", 4096), ("64k", 65536), ("64K", 65536), ("64KiB", 65536), ("1.5GiB", 1_610_612_736), ("1 MiB", 1 << 20),
      ("1kB", 1000), ("2gb", 2_000_000_000), ("512B", 512), ("1T", 1 << 40), (".5M", 1 << 19), ("8E", Int.max),
      ("99999999999999999999", Int.max),
    ])
  func sizes(text: String, bytes: Int) {
    #expect(ByteCount(argument: text)?.bytes == bytes)
  }

  @Test("What is no size is not read", arguments: ["", "k", "-1", "1x", "1kk", "1 k b", "1.2.3", "1e9", "0x10"])
  func noSize(text: String) { #expect(ByteCount(argument: text) == nil) }

  @Test("Sizes are printed with a unit and all digits")
  func printed() {
    for (bytes, text) in [
      (0, "0 bytes"), (1, "1 byte"), (1023, "1,023 bytes"), (1024, "1 KiB (1,024 bytes)"),
      (1_610_612_736, "1.5 GiB (1,610,612,736 bytes)"), ((1 << 20) - 1, "1 MiB (1,048,575 bytes)"),
      (Int.max, "8 EiB (9,223,372,036,854,775,807 bytes)"),
    ] { #expect(ByteCount(bytes).text == text) }
  }
}
