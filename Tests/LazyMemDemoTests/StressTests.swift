import CTestSupport
import Foundation
import TestSupport
import Testing

@testable import lazy_mem_demo

private enum ThreadCount {
  /// Returns how many threads a process has.
  static func of(_ process: Int32) throws -> Int {
    try FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task").count
  }
}

/// Tests `lazy-mem-demo stress` as a process, with short runs and with runs that have a planted defect.
@Suite("lazy-mem-demo stress", .timeLimit(.minutes(6)))
struct StressTests {
  private func stress(_ arguments: String...) throws -> ProcessOutcome { try DemoProcess.run(["stress"] + arguments) }

  @Test("Two seconds of everything at once, and no byte is wrong")
  func short() throws {
    let outcome = try stress("--seconds", "2", "--seed", "3", "--json")
    #expect(outcome.code == 0)
    #expect(outcome.errors == "seed 3\n")
    let report = try outcome.object()
    #expect(report["mismatches"] as? Int == 0)
    #expect(report["seed"] as? Int == 3)
    let operations = try #require(report["operations"] as? [String: Int])
    #expect(Set(operations.keys) == Set(StressOperation.allCases.map(\.name)))
    #expect(operations.values.reduce(0, +) > 100)
    let troubles = try #require(report["providerTroubles"] as? [String: Int])
    #expect(troubles.values.reduce(0, +) > 10)
    #if DEBUG
      let kernel = try #require(report["kernelTroubles"] as? [String: Int])
      #expect(kernel.values.reduce(0, +) > 0)
    #else
      #expect(report["kernelTroubles"] == nil)
    #endif
  }

  @Test("The operations follow from the seed")
  func seed() throws {
    let counts = try ["4", "4", "5"].map { seed in
      let outcome = try stress("--operations", "150", "--threads", "3", "--seed", seed, "--json")
      #expect(outcome.code == 0)
      return try #require(outcome.object()["operations"] as? [String: Int])
    }
    #expect(counts[0].values.reduce(0, +) == 450)
    #expect(counts[0] == counts[1])
    #expect(counts[0] != counts[2])
  }

  @Test("For people it says the seed first and the mismatches last")
  func text() throws {
    let outcome = try stress("--operations", "20", "--threads", "2")
    #expect(outcome.code == 0)
    let lines = outcome.output.split(separator: "\n")
    #expect(lines.first?.hasPrefix("seed        ") == true)
    #expect(lines.last == "mismatches  0")
    #expect(outcome.errors == "")
  }

  @Test(
    "A signal ends the run with the report of what it has done", arguments: [SIGINT, SIGTERM, SIGHUP], [true, false])
  func interrupted(number: Int32, json: Bool) throws {
    let arguments = ["stress", "--seconds", "3600", "--threads", "2"] + (json ? ["--json"] : [])
    let outcome = try DemoProcess.run(arguments) { process in
      // The threads are started after the signals have been blocked.
      eventually { (try? ThreadCount.of(process.processIdentifier)) ?? 0 > 8 }
      kill(process.processIdentifier, number)
    }
    #expect(outcome.code == -number, "a shell knows why it ended")
    let name = number == SIGINT ? "SIGINT" : number == SIGTERM ? "SIGTERM" : "SIGHUP"
    if json {
      #expect(try outcome.object()["interruptedBy"] as? String == name)
    } else {
      #expect(outcome.output.contains(" s, 2 threads, ended by \(name)\n"))
      #expect(outcome.output.hasSuffix("mismatches  0\n"))
    }
  }

  @Test("On a terminal it says how far it is, and the line is gone at the end")
  func progress() throws {
    let (outcome, shown) = try DemoProcess.runOnTerminal([
      "stress", "--operations", "400", "--threads", "2", "--json",
    ])
    #expect(outcome.code == 0)
    #expect(shown.contains(" operations, 0 mismatches\u{1b}[K"))
  }

  @Test(
    "A limit on threads is one line that says so, and no mismatch",
    .enabled(if: TestSupport.Host.isRoot, SkipReason.root))
  func threadLimit() async throws {
    let result = await #expect(processExitsWith: .exitCode(1), observing: [\.standardErrorContent]) {
      let descriptor = DemoProcess.openExecutable()
      #expect(cts_become_nobody() == 0)
      var limit = rlimit(rlim_cur: 3, rlim_max: 3)
      #expect(unsafe setrlimit(__rlimit_resource_t(__RLIMIT_NPROC.rawValue), &limit) == 0)
      DemoProcess.become(descriptor, "stress", "--operations=50")
    }
    let errors = result.errors
    #expect(errors.contains("(EAGAIN: Resource temporarily unavailable)"))
    #expect(errors.contains("RLIMIT_NPROC"))
    #expect(errors.split(separator: "\n").count == 1)
    #expect(!errors.contains("mismatch"))
  }

  @Test(
    "A limit on threads that is met on the way is counted by itself",
    .enabled(if: TestSupport.Host.isRoot, SkipReason.root), arguments: [60, 70, 80])
  func laterThreadLimit(count: Int) throws {
    // The other user may not read the directory of the build.
    let directory = URL(fileURLWithPath: "/tmp/fault-runtime-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
    defer { try? FileManager.default.removeItem(at: directory) }
    let copy = directory.appendingPathComponent("lazy-mem-demo")
    try FileManager.default.copyItem(at: DemoProcess.executable, to: copy)
    let outcome = try ProcessOutcome(
      of: URL(fileURLWithPath: "/usr/bin/env"),
      [
        "setpriv", "--reuid=65533", "--regid=65533", "--clear-groups", "sh", "-c",
        "ulimit -u \(count); exec \"$0\" stress --operations 800 --seed 5", copy.path,
      ])
    #expect(outcome.code == 0 || outcome.code == 1)
    #expect(!outcome.errors.contains("mismatch"))
    #expect(outcome.output.hasSuffix("\nmismatches  0\n"))
  }

  @Test("A limit on descriptors that is met on the way is counted by itself", arguments: [26, 28, 30, 32])
  func descriptorLimit(count: Int) throws {
    let outcome = try ProcessOutcome(
      of: URL(fileURLWithPath: "/bin/sh"),
      [
        "-c", "ulimit -n \(count); exec \"$0\" stress --operations 300 --threads 4 --seed 3",
        DemoProcess.executable.path,
      ])
    #expect(outcome.code == 0 || outcome.code == 1)
    #expect(!outcome.errors.contains("mismatch"))
    if outcome.code == 1, outcome.output.contains("\nmismatches") {
      #expect(outcome.output.contains("\nrefused by a limit of this process: "))
      #expect(outcome.output.hasSuffix("\nmismatches  0\n"))
      #expect(outcome.errors.contains("no byte was wrong"))
    }
  }

  @Test(
    "Wrong usage",
    arguments: [
      ["--threads", "0"], ["--threads", "65"], ["--seconds", "0"], ["--seconds", "1", "--operations", "1"],
      ["--operations", "0"], ["--patience", "-1"],
    ])
  func usage(arguments: [String]) throws {
    let outcome = try DemoProcess.run(["stress"] + arguments)
    #expect(outcome.code == 2)
    #expect(outcome.errors.contains("Error"))
  }

  #if DEBUG
    @Test("One wrong byte in the answers of a provider is found")
    func plantedMismatch() throws {
      let outcome = try stress("--seconds", "4", "--seed", "3", "--plant", "mismatch", "--json")
      #expect(outcome.code == 1)
      #expect(outcome.errors.contains("mismatch: "))
      #expect(outcome.errors.contains("the byte at 0 is "))
      #expect(try #require(try outcome.object()["mismatches"] as? Int) > 0)
    }

    @Test("A provider that never returns is a hang, and it is said who waits for what")
    func plantedHang() throws {
      let outcome = try stress("--seconds", "60", "--seed", "3", "--plant", "hang", "--patience", "1")
      #expect(outcome.code == 2)
      #expect(outcome.errors.contains("an operation takes longer than 1.0 s"))
      #expect(outcome.errors.contains(" of slot 0, region "))
    }
  #endif
}
