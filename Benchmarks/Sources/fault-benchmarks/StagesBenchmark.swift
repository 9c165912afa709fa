import CReference
import Glibc

/// Measures each part of a fault by itself on one CPU. In each round every part runs once, in shuffled order.
struct StagesBenchmark {
  private static let count: Int32 = 8192

  let rounds: Int
  let cpus: [Int]

  func run() throws -> StagesReport {
    let all = cpus.map(Int32.init)
    guard let last = all.last, unsafe creference_run_on([last], 1) == 0 else { throw BenchmarkError("cannot pin") }
    defer { _ = unsafe creference_run_on(all, Int32(all.count)) }
    creference_touch_free_memory(512 << 20)
    let stages = (0..<UInt32(CREFERENCE_STAGES)).map { creference_stage(rawValue: $0) }
    var taken = stages.map { _ in [Double]() }
    var generator = FixedGenerator(seed: 0x57a9e)
    for _ in 0..<rounds {
      for index in stages.indices.shuffled(using: &generator) {
        taken[index].append(creference_stage_nanoseconds(stages[index], Self.count))
      }
    }
    return StagesReport(
      rounds: rounds,
      stages: stages.indices.map { index in
        StagesReport.Stage(
          name: unsafe String(cString: creference_stage_name(stages[index])), nanoseconds: median(taken[index]),
          least: taken[index].min() ?? 0, most: taken[index].max() ?? 0)
      })
  }
}

/// The result of the stages benchmark, in nanoseconds: medians over the rounds.
struct StagesReport: Encodable {
  struct Stage: Encodable {
    var name: String
    var nanoseconds: Double
    var least: Double
    var most: Double
  }

  var rounds: Int
  var stages: [Stage]

  var text: String {
    let rows = stages.map { [$0.name, fixed($0.nanoseconds, 0), fixed($0.least, 0), fixed($0.most, 0)] }
    return """
      the parts of a fault, on one CPU; ns, \(rounds) rounds
      \(table([["stage", "median", "least", "most"]] + rows))
      """
  }
}
