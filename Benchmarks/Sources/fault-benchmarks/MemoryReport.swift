import FaultRuntime
import FoundationEssentials
import Glibc

/// The result of the memory benchmark in several processes.
///
/// The kernel maps code in pieces of 64 KiB around each page that is used, and every process has the code at another
/// place. One process may therefore have three such pieces more than another one that does the same.
struct MemoryReport: Codable {
  /// The cases of each process.
  var processes: [[MemoryCase]]

  /// Measures in this process, which must not have had a runtime yet.
  init(inThisProcessPlanting plant: Bool) throws {
    processes = [try MemoryBenchmark(plant: plant).run()]
  }

  /// Measures in new processes of this program, one after the other.
  init(inProcesses count: Int, planting plant: Bool) throws {
    processes = try (0..<count).flatMap { _ in try Self.ofNewProcess(plant: plant).processes }
  }

  private static func ofNewProcess(plant: Bool) throws -> Self {
    struct Output: Decodable {
      var memory: MemoryReport
    }
    let planting = plant ? " --plant-regression \(PlantedRegression.memory.rawValue)" : ""
    guard let stream = unsafe popen("exec /proc/\(getpid())/exe memory --processes 1 --json\(planting)", "re") else {
      throw BenchmarkError("cannot start a process for the memory benchmark (\(KernelErrno(rawValue: errno)))")
    }
    var text = Data()
    while true {
      let byte = unsafe getc(stream)
      guard byte != EOF else { break }
      text.append(UInt8(byte))
    }
    let status = unsafe pclose(stream)
    guard status == 0 else { throw BenchmarkError("a process of the memory benchmark ended with status \(status)") }
    do {
      return try JSONDecoder().decode(Output.self, from: text).memory
    } catch {
      throw BenchmarkError("a process of the memory benchmark printed something else than its result: \(error)")
    }
  }

  /// What the processes found for one region.
  private struct Summary {
    /// The median by what is judged. Of an even number of processes it is the greater of the two in the middle.
    let median: MemoryCase
    let least: Int
    let greatest: Int

    init(_ cases: [MemoryCase]) {
      let sorted = cases.sorted { $0.judged < $1.judged }
      median = sorted[sorted.count / 2]
      least = sorted[0].judged
      greatest = sorted[sorted.count - 1].judged
    }
  }

  private var summaries: [Summary] {
    processes[0].indices.map { index in Summary(processes.map { $0[index] }) }
  }

  private static let header = [
    "region", "touches", "filled KiB", "private dirty KiB", "resident KiB", "of all processes",
    "page tables KiB (not judged)",
  ]

  var text: String {
    let rows = summaries.map { one in
      [one.median.region, "\(one.median.touches)"]
        + [one.median.filled, one.median.growth.privateDirty, one.median.growth.resident].map { "\($0 >> 10)" }
        + ["\(one.least >> 10) to \(one.greatest >> 10)", "\(one.median.pageTables >> 10)"]
    }
    return """
      memory that a runtime with one region adds to the process, without the region's own pages: the median of \
      \(processes.count) processes
      \(table([Self.header] + rows))
      """
  }

  func failures(against thresholds: Thresholds) -> [String] {
    summaries.filter { $0.median.judged > thresholds.memoryBytes }.map {
      "memory: a runtime with a region of \($0.median.region) adds \($0.median.judged) bytes in the median of "
        + "\(processes.count) processes, more than \(thresholds.memoryBytes)"
    }
  }
}
