import ArgumentParser
import Glibc

/// How a touch of a lazy page compares with the C handler.
struct LatencyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "latency",
    abstract: "Latency of a touch, side by side with the shortest C handler."
  )

  @OptionGroup var common: CommonOptions
  @OptionGroup var latency: LatencyOptions

  func run() throws {
    var session = try Session(common)
    try session.runLatency(latency)
    try session.finish()
  }
}

/// That serving a fault allocates nothing.
struct AllocationsCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "allocations",
    abstract: "Heap allocations of the whole process while faults are served."
  )

  @OptionGroup var common: CommonOptions

  @Option(help: "Faults that are counted, after a warm-up of 2000.")
  var faults = 20_000

  func validate() throws {
    guard (100...1_000_000).contains(faults) else { throw ValidationError("--faults is from 100 to 1000000.") }
  }

  func run() throws {
    var session = try Session(common)
    try session.runAllocations(faults: faults)
    try session.finish()
  }
}

/// What a runtime with one region costs in memory.
struct MemoryCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "memory",
    abstract: "Resident memory of a runtime with one region, without the region's own pages."
  )

  @OptionGroup var common: CommonOptions

  func run() throws {
    var session = try Session(common)
    try session.runMemory()
    try session.finish()
  }
}

/// What filling in bulk costs, in C and by `populate()`.
struct PopulateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "populate",
    abstract: "Filling a large range in bulk, side by side with every way to do it in C.",
    discussion: "Pinned only where --cpu is given, because some of the contenders are two threads. Nothing is judged."
  )

  @OptionGroup var common: CommonOptions
  @OptionGroup var populate: PopulateOptions

  func run() throws {
    var common = common
    common.noPin = common.cpu == nil
    var session = try Session(common)
    try session.runPopulate(populate)
    try session.finish()
  }
}

/// Everything.
struct AllCommand: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "all", abstract: "Every benchmark in turn.")

  @OptionGroup var common: CommonOptions
  @OptionGroup var latency: LatencyOptions

  @Flag(help: "Fewer rounds and less memory: a second or two, for continuous integration.")
  var quick = false

  func run() throws {
    var latency = latency
    if quick {
      latency.pages = min(latency.pages, 2048)
      latency.rounds = min(latency.rounds, 11)
      latency.touchMebibytes = min(latency.touchMebibytes, 128)
    }
    var session = try Session(common)
    // First, because later ones leave warm memory behind that would make this one look smaller.
    try session.runMemory()
    try session.runAllocations(faults: 20_000)
    try session.runLatency(latency)
    try session.finish()
  }
}

/// One run of the program: pins, measures, prints, and says what failed.
private struct Session {
  private let common: CommonOptions
  private let thresholds: Thresholds?
  private var report: Report
  private var failures: [String] = []

  init(_ common: CommonOptions) throws {
    self.common = common
    thresholds = try common.thresholds.map { try Thresholds(path: $0) }
    // Before any thread is started, because a thread inherits what its starter has.
    report = Report(machine: try Machine(cpu: common.cpu, pin: !common.noPin))
    if !common.json { print(report.machine.text) }
    if let planted = common.plantRegression {
      Diagnostics.write("note: a regression of \(planted.rawValue) is planted; what follows is not the library's doing")
    }
  }

  mutating func runLatency(_ options: LatencyOptions) throws {
    let result = try LatencyBenchmark(options, plant: common.plantRegression == .latency).run()
    report.latency = result
    show(result.text)
    if let thresholds { failures += result.failures(against: thresholds) }
  }

  mutating func runAllocations(faults: Int) throws {
    let result = try AllocationBenchmark(faults: faults, plant: common.plantRegression == .allocations).run()
    report.allocations = result
    show(result.text)
    if let thresholds { failures += result.failures(against: thresholds) }
  }

  mutating func runMemory() throws {
    let result = try MemoryBenchmark(plant: common.plantRegression == .memory).run()
    report.memory = result
    show(result.text)
    if let thresholds { failures += result.failures(against: thresholds) }
  }

  mutating func runPopulate(_ options: PopulateOptions) throws {
    let result = try PopulateBenchmark(options).run()
    report.populate = result
    show(result.text)
  }

  mutating func finish() throws {
    let after = Machine.Load()
    report.loadAfter = after
    report.failures = failures
    if common.json {
      print(try report.json())
    } else {
      print("\nafter      \(after.text)")
      if thresholds == nil {
        print("nothing was judged: no --thresholds")
      } else if failures.isEmpty {
        print("every threshold holds")
      }
    }
    // The verdict comes last wherever both outputs go.
    fflush(nil)
    for failure in failures { Diagnostics.write("FAILED: \(failure)") }
    if !failures.isEmpty { throw ExitCode(1) }
  }

  private func show(_ text: String) {
    if !common.json { print("\n" + text) }
  }
}
