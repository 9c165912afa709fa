import FoundationEssentials

/// Everything that one run found, as JSON for other programs.
struct Report: Encodable {
  var machine: Machine
  var memory: MemoryReport?
  var allocations: AllocationReport?
  var append: AppendReport?
  var speed: [SpeedResult]?
  var populate: PopulateReport?
  var stages: StagesReport?
  var loadAfter: Machine.Load?
  var failures: [String] = []

  init(machine: Machine) { self.machine = machine }

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }
}

/// What a row has to reach.
struct SpeedGoal: Codable {
  /// The greatest ratio that passes.
  var limit: Double
  /// The ratio that was aimed at, for a row that cannot reach it; docs/performance.md says why.
  var goal: Double?
}

/// The limits that must hold. They are committed, so that a review sees each change of them.
struct Thresholds: Decodable {
  /// The limit for each row of the speed benchmark, by the row's name.
  var speed: [String: SpeedGoal]
  /// The largest number of allocations in all counted faults of a case together.
  var allocations: Int
  /// The limits for appending to a buffer.
  var append: AppendGoals
  /// The largest number of bytes that a runtime with one region may add to the process.
  var memoryBytes: Int

  init(path: String) throws {
    let text = contents(of: path)
    guard !text.isEmpty else { throw BenchmarkError("cannot read thresholds from \(path)") }
    do {
      self = try JSONDecoder().decode(Self.self, from: Data(text.utf8))
    } catch {
      throw BenchmarkError("\(path) does not hold thresholds: \(error)")
    }
  }
}

/// Returns `value` with a fixed number of decimals.
func fixed(_ value: Double, _ digits: Int) -> String {
  guard value.isFinite else { return "\(value)" }
  let scale = (0..<digits).reduce(1) { product, _ in product * 10 }
  let scaled = Int((value.magnitude * Double(scale)).rounded())
  let sign = value < 0 && scaled != 0 ? "-" : ""
  guard digits > 0 else { return "\(sign)\(scaled)" }
  let fraction = "\(scaled % scale)"
  return "\(sign)\(scaled / scale)." + String(repeating: "0", count: digits - fraction.count) + fraction
}

/// Formats rows as columns: the first column left-aligned, the others right-aligned.
func table(_ rows: [[String]]) -> String {
  let columns = rows.map(\.count).max() ?? 0
  let widths = (0..<columns).map { column in
    rows.map { $0.count > column ? $0[column].count : 0 }.max() ?? 0
  }
  return rows.map { row in
    row.enumerated().map { column, cell in
      let padding = String(repeating: " ", count: widths[column] - cell.count)
      return column == 0 ? cell + padding : "  " + padding + cell
    }.joined()
  }.joined(separator: "\n")
}

/// Returns the median of the values, or 0 if there are none.
func median(_ values: [Double]) -> Double {
  guard !values.isEmpty else { return 0 }
  let sorted = values.sorted()
  let middle = sorted.count / 2
  return sorted.count.isMultiple(of: 2) ? (sorted[middle - 1] + sorted[middle]) / 2 : sorted[middle]
}
