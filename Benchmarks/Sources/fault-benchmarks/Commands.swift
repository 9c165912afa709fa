import ArgumentParser
import Glibc

/// Measures every promise about speed.
struct SpeedCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "speed",
    abstract: "Ratios to hand-written C and to the kernel's own faults, a row for each promise about speed."
  )

  @OptionGroup var common: CommonOptions
  @OptionGroup var speed: SpeedOptions

  func run() throws {
    var session = try Session(common)
    try session.runSpeed(speed)
    try session.finish()
  }
}

/// Checks that serving a fault allocates nothing.
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

/// Measures how much memory a runtime with one region takes.
struct MemoryCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "memory",
    abstract: "Resident memory of a runtime with one region, without the region's own pages."
  )

  @OptionGroup var common: CommonOptions
  @OptionGroup var memory: MemoryOptions

  func run() throws {
    var session = try Session(common)
    try session.runMemory(memory)
    try session.finish()
  }
}

/// Measures how long appending to a buffer takes.
struct AppendCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "append",
    abstract: "PageBuffer.append of bytes that are there and of computed ones, against memcpy and a loop."
  )

  @OptionGroup var common: CommonOptions

  @Option(help: "Rounds for each way.")
  var rounds = 21

  @Flag(help: "A third of the rounds, for continuous integration.")
  var quick = false

  func validate() throws {
    guard (1...10_000).contains(rounds) else { throw ValidationError("--rounds is from 1 to 10000.") }
  }

  func run() throws {
    var session = try Session(common)
    try session.runAppend(rounds: quick ? max(1, rounds / 3) : rounds)
    try session.finish()
  }
}

/// Measures filling in bulk, in C and by `populate()`.
struct PopulateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "populate",
    abstract: "Filling a large range in bulk, side by side with every way to do it in C.",
    discussion: "Nothing is judged."
  )

  @OptionGroup var common: CommonOptions
  @OptionGroup var populate: PopulateOptions

  func run() throws {
    var session = try Session(common)
    try session.runPopulate(populate)
    try session.finish()
  }
}

/// Measures the parts of a fault.
struct StagesCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "stages",
    abstract: "The parts that a fault consists of, each by itself, in C.",
    discussion: "Nothing is judged."
  )

  @OptionGroup var common: CommonOptions

  @Option(help: "Rounds for each part.")
  var rounds = 15

  func validate() throws {
    guard (1...10_000).contains(rounds) else { throw ValidationError("--rounds is from 1 to 10000.") }
  }

  func run() throws {
    var session = try Session(common)
    try session.runStages(rounds: rounds)
    try session.finish()
  }
}

/// Runs every benchmark that has a threshold.
struct AllCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "all", abstract: "Every benchmark that a threshold judges.")

  @OptionGroup var common: CommonOptions
  @OptionGroup var memory: MemoryOptions
  @OptionGroup var speed: SpeedOptions

  func run() throws {
    var session = try Session(common)
    // The memory benchmark runs first. Where it measures in this process, the others would leave memory behind that it
    // could reuse, which would make its result too small.
    try session.runMemory(memory)
    try session.runAllocations(faults: 20_000)
    try session.runAppend(rounds: speed.quick ? 7 : 21)
    try session.runSpeed(speed)
    try session.finish()
  }
}

/// One run of the program: it measures, prints, and reports which thresholds do not hold.
private struct Session {
  private let common: CommonOptions
  private let thresholds: Thresholds?
  private var report: Report
  private var failures: [String] = []

  init(_ common: CommonOptions) throws {
    self.common = common
    thresholds = try common.thresholds.map { try Thresholds(path: $0) }
    report = Report(machine: try Machine())
    if !common.json { print(report.machine.text) }
    if let planted = common.plantRegression {
      Diagnostics.write("note: a regression of \(planted.rawValue) is planted; what follows is not the library's doing")
    }
  }

  mutating func runSpeed(_ options: SpeedOptions) throws {
    var benchmark = try SpeedBenchmark(
      options, cpus: report.machine.allowedCPUs, goals: thresholds?.speed ?? [:], plant: common.plantRegression)
    // Each row is printed as soon as it is measured, because all of them together take a while.
    show(SpeedResult.header)
    try benchmark.run { result in if !common.json { print(result.text) } }
    report.speed = benchmark.results
    show(benchmark.quietness)
    failures += benchmark.failures
  }

  mutating func runAllocations(faults: Int) throws {
    let result = try AllocationBenchmark(faults: faults, plant: common.plantRegression == .allocations).run()
    report.allocations = result
    show(result.text)
    if let thresholds { failures += result.failures(against: thresholds) }
  }

  mutating func runMemory(_ options: MemoryOptions) throws {
    let plant = common.plantRegression == .memory
    let result =
      options.processes == 1
      ? try MemoryReport(inThisProcessPlanting: plant)
      : try MemoryReport(inProcesses: options.processes, planting: plant)
    report.memory = result
    show(result.text)
    if let thresholds { failures += result.failures(against: thresholds) }
  }

  mutating func runAppend(rounds: Int) throws {
    let benchmark = AppendBenchmark(rounds: rounds, plant: common.plantRegression == .append)
    var result = try benchmark.run()
    // As with the rows of `speed`, the machine may have been busy.
    while result.retries < 2, let thresholds, !result.failures(against: thresholds).isEmpty {
      result.measureAgain(try benchmark.run())
    }
    report.append = result
    show(result.text)
    if let thresholds { failures += result.failures(against: thresholds) }
  }

  mutating func runStages(rounds: Int) throws {
    let result = try StagesBenchmark(rounds: rounds, cpus: report.machine.allowedCPUs).run()
    report.stages = result
    show(result.text)
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
    // Flushing first makes the verdict the last output even if both streams go to the same place.
    fflush(nil)
    for failure in failures { Diagnostics.write("FAILED: \(failure)") }
    if !failures.isEmpty { throw ExitCode(1) }
  }

  private func show(_ text: String) {
    if !common.json { print("\n" + text) }
  }
}
