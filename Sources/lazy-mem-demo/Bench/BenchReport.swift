import FaultRuntime
import FoundationEssentials
import Histogram

/// The result of the benchmark, as text for people and as JSON for programs.
struct BenchReport: Encodable {
  /// One contender. Times are in nanoseconds.
  struct Row {
    var contender: BenchContender
    /// The number of pages that the contender promises for each fault. For requests that grow, this is a measured
    /// number, rounded to a tenth.
    var pagesPerFault: Double
    /// The delivery that the library chose, and the reason.
    var choice: DeliveryChoice?
    var threads: Int
    var order: TouchOrder
    var access: TouchAccess
    /// The median over the rounds of wall time divided by pages.
    var nanosecondsPerPage: Double
    /// Percentiles over every touch of every round.
    var p50: UInt64
    var p90: UInt64
    var p99: UInt64
    var p999: UInt64
    var pagesPerSecond: Double
    /// `nanosecondsPerPage` divided by that of the yardstick; nil if the yardstick was left out.
    var ratioToKernel: Double?
    var ratioToSigsegv: Double?
    /// How far apart the rounds are: the distance between the quartiles, as a part of the median.
    var spread: Double
    var rounds: [Double]
    var latency: Histogram<UInt32>
  }

  var machine: BenchMachine
  var pages: Int
  var threads: Int
  var rounds: Int
  var order: TouchOrder
  var access: TouchAccess
  var rows: [Row]
  var leftOut: [LeftOut]
  /// What a reader should know before believing the numbers; empty if the machine was quiet.
  var warnings: [String]

  init(_ session: BenchSession, _ command: BenchCommand, _ machine: BenchMachine, others: Double, host: Double) {
    self.machine = machine
    pages = command.pages
    threads = command.threads
    rounds = command.rounds
    order = command.order
    access = command.access
    leftOut = session.leftOut
    func nanoseconds(of name: String) -> Double? {
      session.measured.first { $0.contender.name == name }.map { median($0.roundNanosecondsPerPage) }
    }
    let kernel = nanoseconds(of: BenchContender.kernelYardstick)
    let sigsegv = nanoseconds(of: BenchContender.sigsegvYardstick)
    rows = session.measured.map { one in
      let middle = median(one.roundNanosecondsPerPage)
      let sorted = one.roundNanosecondsPerPage.sorted()
      return Row(
        contender: one.contender, pagesPerFault: one.pagesPerFault(touched: command.pages * command.rounds),
        choice: one.choice, threads: command.threads, order: command.order, access: command.access,
        nanosecondsPerPage: middle,
        p50: one.latency.valueAtPercentile(50), p90: one.latency.valueAtPercentile(90),
        p99: one.latency.valueAtPercentile(99), p999: one.latency.valueAtPercentile(99.9),
        pagesPerSecond: 1e9 / middle, ratioToKernel: kernel.map { middle / $0 },
        ratioToSigsegv: sigsegv.map { middle / $0 },
        spread: (sorted[sorted.count * 3 / 4] - sorted[sorted.count / 4]) / middle,
        rounds: one.roundNanosecondsPerPage, latency: one.latency)
    }
    warnings = Self.warnings(rows, rounds: command.rounds, others: others, host: host)
  }

  /// The rows by group, without empty groups.
  var groups: [(title: String, rows: [Row])] {
    BenchContender.Group.allCases.map { group in (group.title, rows.filter { $0.contender.group == group }) }
      .filter { !$0.rows.isEmpty }
  }

  private static func warnings(_ rows: [Row], rounds: Int, others: Double, host: Double) -> [String] {
    func percent(_ part: Double) -> String { fixed(part * 100, 0) + " %" }
    var warnings: [String] = []
    let yardsticks = [BenchContender.kernelYardstick, BenchContender.sigsegvYardstick]
    for row in rows where yardsticks.contains(row.contender.name) && row.spread > 0.15 {
      warnings.append(
        "the rounds of the yardstick \(row.contender.name) lie \(percent(row.spread)) apart: "
          + "ratios to it are as uncertain")
    }
    let wide = rows.filter { $0.spread > 0.3 && !yardsticks.contains($0.contender.name) }
    if !wide.isEmpty {
      let names = wide.map { "\($0.contender.name) (\(percent($0.spread)))" }.joined(separator: ", ")
      warnings.append("rounds lie far apart: \(names)")
    }
    if others > 0.05 { warnings.append("other programs took \(percent(others)) of the CPU time") }
    if host > 0.01 { warnings.append("the host took \(percent(host)) of the CPU time away from this virtual machine") }
    if rounds < 5 { warnings.append("fewer than 5 rounds make no median that can be believed") }
    return warnings
  }
}

extension BenchSession.Measured {
  fileprivate func pagesPerFault(touched pages: Int) -> Double {
    switch contender.requests {
    case .pages(let count): Double(count)
    case .growing: (Double(pages) / Double(max(1, faults)) * 10).rounded() / 10
    }
  }
}

extension BenchReport {
  private enum CodingKeys: String, CodingKey {
    case machine, pages, rounds, contenders, leftOut, warnings
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(machine, forKey: .machine)
    try container.encode(pages, forKey: .pages)
    try container.encode(rounds, forKey: .rounds)
    try container.encode(rows, forKey: .contenders)
    try container.encode(leftOut, forKey: .leftOut)
    try container.encode(warnings, forKey: .warnings)
  }

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }
}

extension BenchReport.Row: Encodable {
  private enum CodingKeys: String, CodingKey {
    case name, pagesPerFault, threads, order, access, nanosecondsPerPage, p50, p90, p99, p999, pagesPerSecond
    case ratioToKernel, ratioToSigsegv
  }

  // Encoded by hand, so that a missing ratio appears as null instead of as a missing key.
  func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(contender.name, forKey: .name)
    try container.encode(pagesPerFault, forKey: .pagesPerFault)
    try container.encode(threads, forKey: .threads)
    try container.encode(order.rawValue, forKey: .order)
    try container.encode(access.rawValue, forKey: .access)
    try container.encode(nanosecondsPerPage, forKey: .nanosecondsPerPage)
    try container.encode(p50, forKey: .p50)
    try container.encode(p90, forKey: .p90)
    try container.encode(p99, forKey: .p99)
    try container.encode(p999, forKey: .p999)
    try container.encode(pagesPerSecond, forKey: .pagesPerSecond)
    try container.encode(ratioToKernel, forKey: .ratioToKernel)
    try container.encode(ratioToSigsegv, forKey: .ratioToSigsegv)
  }
}
