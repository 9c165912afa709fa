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

  func text(_ layout: TextLayout = TextLayout()) -> String {
    let end = interruptedBy.map { ", ended by \($0)" } ?? ""
    let time = "\(fixed(seconds, 1)) s, \(threads) \(threads == 1 ? "thread" : "threads")\(end)"
    var lines = layout.wrapped(time, start: "time        ", indent: 12)
    lines += Self.section("operations", operations, layout)
    lines += Self.section("answers of providers", answers, layout)
    lines += Self.section("faults injected into providers", providerTroubles, layout)
    let kernel = "faults injected into the kernel's answers"
    if let kernelTroubles {
      lines += Self.section(kernel, kernelTroubles, layout)
    } else {
      lines += layout.wrapped("\(kernel): none, this is a release build", indent: 2)
    }
    lines += Self.section("failures seen, all of them allowed", failures, layout)
    if !limits.isEmpty { lines += Self.section("refused by a limit of this process", limits, layout) }
    lines.append("mismatches  \(mismatches)")
    return lines.joined(separator: "\n")
  }

  private static func section(_ name: String, _ counts: [String: Int], _ layout: TextLayout) -> [String] {
    layout.wrapped("\(name): \(counts.values.reduce(0, +))", indent: 2)
      + counts.sorted { $0.key < $1.key }.flatMap { name, count in
        let number = "\(count)"
        let start = String(repeating: " ", count: max(1, 12 - number.count)) + number + "  "
        return layout.wrapped(name, start: start, indent: 14)
      }
  }
}
