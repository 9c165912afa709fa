import CReference
import FaultRuntime
import Glibc

/// Measures rows. In each round every contender of a row runs once, in shuffled order, so that other activity of the
/// machine affects all contenders alike.
struct SpeedBenchmark {
  /// Rows with at most this number of pages are short enough to have more rounds.
  private static let fewPages = 16384

  /// How far above its limit a row may be in a quick run, whose few rounds are not more exact than that. With a
  /// planted regression there is no slack, because that run shows whether the limit itself notices the regression.
  private static let quickSlack = 1.1

  private let options: SpeedOptions
  private let rounds: Int
  private let slack: Double
  private let cpus: [Int]
  private let rows: [SpeedRow]
  private let track: SpeedTrack
  private let goals: [String: SpeedGoal]
  private var generator = FixedGenerator(seed: 0xdea1)

  private(set) var results: [SpeedResult] = []

  init(_ options: SpeedOptions, cpus: [Int], goals: [String: SpeedGoal], plant: PlantedRegression?) throws {
    self.options = options
    slack = options.quick && plant == nil ? Self.quickSlack : 1
    rounds = options.quick ? min(options.rounds, 5) : options.rounds
    self.cpus = cpus
    self.goals = goals
    let all = SpeedRow.all(isQuick: options.quick, plant: plant)
    let named = all.filter { $0.name == options.row }
    rows = named.isEmpty ? all.filter { $0.name.hasPrefix(options.row) } : named
    guard let pages = rows.map(\.pages).max() else { throw BenchmarkError("there is no row '\(options.row)'") }
    if !goals.isEmpty, let row = rows.first(where: { goals[$0.name] == nil }) {
      throw BenchmarkError("the thresholds say nothing of '\(row.name)'")
    }
    // The host of a virtual machine backs memory when the guest first touches it, which takes longer than any
    // measured fault.
    creference_touch_free_memory(max(512 << 20, 2 * pages * Host.pageSize))
    track = try SpeedTrack(pages: pages, cpus: cpus, plant: plant)
  }

  mutating func run(_ tell: (SpeedResult) -> Void) throws {
    for row in rows {
      var result = try measure(row)
      for _ in 0..<options.retries where result.hasFailed || !result.isQuiet {
        var again = try measure(row)
        again.retries = result.retries + 1
        // A regression shows in every measurement, and noise does not.
        if again.ratio < result.ratio || (again.isQuiet && !result.isQuiet) { result = again }
        result.retries = again.retries
      }
      tell(result)
      results.append(result)
    }
  }

  var failures: [String] {
    results.filter(\.hasFailed).map { result in
      "speed: \(result.name): \(result.subject) takes \(fixed(result.ratio, 3)) times what \(result.yardstick) does, "
        + "more than \(fixed(result.goal?.limit ?? 0, 2)); the control is \(fixed(result.control, 3))"
    }
  }

  /// Says whether the numbers can be trusted: each yardstick is its own control.
  var quietness: String {
    let loud = results.filter { !$0.isQuiet }.map(\.name)
    return loud.isEmpty
      ? "the machine looks quiet: each yardstick is within \(fixed(SpeedResult.drift * 100, 0)) % of itself"
      : "the machine is NOT quiet: the yardstick of \(loud.joined(separator: ", ")) differs from itself"
  }

  private mutating func measure(_ row: SpeedRow) throws -> SpeedResult {
    let company = row.company == .busyCPUs ? try BusyCPUs(cpus) : nil
    defer { company?.stop() }
    // The yardsticks run twice. The difference between the two results shows how far the machine can be trusted.
    let contenders = [row.subject] + row.yardsticks + row.yardsticks
    var taken = contenders.map { _ in [Double]() }
    let rounds = row.pages <= Self.fewPages ? 3 * rounds : rounds
    for _ in 0..<rounds {
      for index in contenders.indices.shuffled(using: &generator) {
        if row.touchesFreeMemory { creference_touch_free_huge_pages(row.pages * Host.pageSize / 8 * 9) }
        let sample = try track.run(contenders[index], of: row, isSubject: index == 0)
        taken[index].append(row.statistic.value(of: sample, pages: row.pages))
      }
    }
    let count = row.yardsticks.count
    let best = (1...count).min { median(taken[$0]) < median(taken[$1]) } ?? 1
    return SpeedResult(
      row, rounds: rounds, taken: taken[0], yardstick: row.yardsticks[best - 1].name, taken[best],
      again: taken[best + count], others: zip(row.yardsticks, taken[1...count]).map { ($0.name, median($1)) },
      goal: goals[row.name], slack: slack)
  }
}

extension SpeedStatistic {
  /// Returns the statistic in nanoseconds.
  func value(of sample: SpeedSample, pages: Int) -> Double {
    switch self {
    case .perPage: return Double(sample.wall) / Double(pages)
    case .mean: return Double(sample.touches.reduce(0, +)) / Double(pages)
    case .p50, .p99:
      let sorted = sample.touches.sorted()
      guard !sorted.isEmpty else { return .nan }
      return Double(sorted[min(sorted.count - 1, sorted.count * (self == .p50 ? 50 : 99) / 100)])
    }
  }
}

/// The result of one row.
struct SpeedResult: Encodable {
  /// How far the two results of a yardstick may differ from each other.
  static let drift = 0.05

  var name: String
  var about: String
  var statistic: SpeedStatistic
  var pages: Int
  var threads: Int
  var rounds: Int
  var subject: String
  var yardstick: String
  /// Medians over the rounds, in nanoseconds.
  var subjectNanoseconds: Double
  var yardstickNanoseconds: Double
  var yardsticks: [String: Double]
  /// The median over the rounds of the quotient within a round. Changes of the machine between rounds cancel out.
  var ratio: Double
  /// The same ratio for the yardstick against itself.
  var control: Double
  var goal: SpeedGoal?
  /// The factor by which the ratio may exceed the limit.
  var slack: Double
  var retries = 0

  init(
    _ row: SpeedRow, rounds: Int, taken: [Double], yardstick: String, _ reference: [Double], again: [Double],
    others: [(String, Double)], goal: SpeedGoal?, slack: Double
  ) {
    name = row.name
    about = row.about
    statistic = row.statistic
    pages = row.pages
    threads = row.threads
    self.rounds = rounds
    subject = row.subject.name
    self.yardstick = yardstick
    subjectNanoseconds = median(taken)
    yardstickNanoseconds = median(reference)
    yardsticks = Dictionary(others, uniquingKeysWith: { first, _ in first })
    // Both samples of the yardstick are equally good, so the ratio uses their mean.
    let references = zip(reference, again).map { one, other in (one + other) / 2 }
    ratio = median(zip(taken, references).map { one, other in one / other })
    control = median(zip(again, reference).map { $0 / $1 })
    self.goal = goal
    self.slack = slack
  }

  var hasFailed: Bool { goal.map { !(ratio <= $0.limit * slack) } ?? false }
  var isQuiet: Bool { abs(control - 1) <= Self.drift }

  static let header = """
    speed: medians of the rounds; ns, the ratio within rounds, the yardstick against itself, and what must be reached
    """

  var text: String {
    let others = yardsticks.filter { $0.key != yardstick }.sorted { $0.key < $1.key }
      .map { "; \($0.key) \(fixed($0.value, 0))" }.joined()
    var lines = ["\(name): \(about); \(statistic.rawValue), \(pages) pages, \(rounds) rounds"]
    lines.append(
      "    \(subject) \(fixed(subjectNanoseconds, 0)), \(yardstick) \(fixed(yardstickNanoseconds, 0))\(others)")
    lines.append("    ratio \(fixed(ratio, 3)), control \(fixed(control, 3))\(verdict)")
    return lines.joined(separator: "\n")
  }

  private var verdict: String {
    var text = ""
    if let goal {
      text = "; \(hasFailed ? "FAILED: " : "")at most \(fixed(goal.limit, 2))"
      if slack > 1 { text += " and a tenth of it" }
      if let goal = goal.goal { text += ", aimed at \(fixed(goal, 2))" }
    }
    if retries > 0 { text += "; measured \(retries + 1) times" }
    return text
  }
}
