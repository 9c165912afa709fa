import FoundationEssentials

/// The result of a run, as text for people and as JSON for programs.
struct StressReport: Encodable {
  var seed: UInt64
  var threads: Int
  var seconds: Double
  var operations: [String: Int]
  var answers: [String: Int]
  /// What the providers did wrong, by kind.
  var providerTroubles: [String: Int]
  /// The failures of the kernel's requests that were made; nil in release builds, which cannot make them.
  var kernelTroubles: [String: Int]?
  /// The failures that the model allows.
  var failures: [String: Int]
  /// What could not be done because of a limit of the process.
  var limits: [String: Int]
  /// The signal that ended the run before its time.
  var interruptedBy: String?
  var mismatches: Int
  var firstMismatches: [String]

  init(_ run: StressRun, seconds: Double, kernelTroubles: [String: Int]?, interruptedBy: String?) {
    seed = run.settings.seed
    threads = run.settings.threads
    self.seconds = seconds
    operations = run.tally.operationsDone
    answers = run.tally.answersGiven
    providerTroubles = run.tally.troublesMade
    self.kernelTroubles = kernelTroubles
    failures = run.tally.failuresSeen
    limits = run.tally.limitsMet
    self.interruptedBy = interruptedBy
    (mismatches, firstMismatches) = run.tally.mismatches
  }

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }

  func text() -> String {
    let end = interruptedBy.map { ", ended by \($0)" } ?? ""
    var lines = ["time        \(fixed(seconds, 1)) s, \(threads) \(threads == 1 ? "thread" : "threads")\(end)"]
    lines += Self.section("operations", operations)
    lines += Self.section("answers of providers", answers)
    lines += Self.section("faults injected into providers", providerTroubles)
    if let kernelTroubles {
      lines += Self.section("faults injected into the kernel's answers", kernelTroubles)
    } else {
      lines.append("faults injected into the kernel's answers: none, this is a release build")
    }
    lines += Self.section("failures seen, all of them allowed", failures)
    if !limits.isEmpty { lines += Self.section("refused by a limit of this process", limits) }
    lines.append("mismatches  \(mismatches)")
    return lines.joined(separator: "\n")
  }

  private static func section(_ name: String, _ counts: [String: Int]) -> [String] {
    ["\(name): \(counts.values.reduce(0, +))"]
      + counts.sorted { $0.key < $1.key }.map { name, count in
        let number = "\(count)"
        return String(repeating: " ", count: max(1, 12 - number.count)) + number + "  " + name
      }
  }
}
