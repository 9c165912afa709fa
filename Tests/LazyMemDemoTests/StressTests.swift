import Foundation
import TestSupport
import Testing

@testable import lazy_mem_demo

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
