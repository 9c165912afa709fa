import CAllocationCount
import FaultRuntime
import Glibc

/// Counts every allocation of the process, including those of the touching threads, while faults are served. After
/// the warm-up there must be none, because a fault path that allocates can fail for lack of memory.
struct AllocationBenchmark {
  private static let warmUpFaults = 2000

  private let faults: Int
  private let plant: PlantedRegression?

  init(faults: Int, plant: Bool) {
    self.faults = faults
    self.plant = plant ? .allocations : nil
  }

  func run() throws -> AllocationReport {
    let check = Self.countOfPlantedObjects()
    guard check == 1000 else {
      throw BenchmarkError("the allocation counter saw \(check) of 1000 planted objects")
    }
    let units = Self.warmUpFaults + faults
    let pageSize = sysconf(Int32(_SC_PAGESIZE))
    let memory = SourceMemory(pages: units)
    let lending = LendingProvider(memory: memory, plant: plant)
    let growing = LendingProvider(memory: memory, largestPages: 64, plant: plant)
    let filling = FillingProvider(unit: pageSize, plant: plant)
    let pooled = FillingProvider(unit: pageSize, isPooled: true, plant: plant)
    let zero = ZeroProvider()

    var cases: [AllocationCase] = []
    for delivery in [Delivery.eventLoop, .sigbus, .sigsegv] {
      for threads in [1, 4] {
        let one = TouchOrder(shuffling: units, stride: pageSize, multiplier: 7)
        let two = TouchOrder(shuffling: units, stride: pageSize, multiplier: 5)
        let three = TouchOrder(shuffling: units, stride: pageSize, multiplier: 0)
        let four = TouchOrder(sequential: units, stride: pageSize, multiplier: 7)
        cases += [
          try count("lent pages", lending, delivery, threads, one),
          try count("filled pages", filling, delivery, threads, two),
          try count("zeros", zero, delivery, threads, three),
          // These requests grow, and the event loop streams ahead of them, so there are far fewer faults.
          try count("growing requests", growing, delivery, threads, four, leastFaults: faults / 2000),
        ]
        if delivery != .sigbus { cases.append(try count("from the pool", pooled, delivery, threads, two)) }
      }
    }
    return AllocationReport(selfCheck: check, wanted: faults, cases: cases)
  }

  /// Makes 1000 objects and returns how many of them the counter saw. This shows that the counter sees what the Swift
  /// runtime allocates.
  private static func countOfPlantedObjects() -> Int {
    let before = allocation_count()
    for _ in 0..<1000 { withExtendedLifetime(PlantedObject.make()) {} }
    return Int(allocation_count() - before)
  }

  private func count(
    _ name: String,
    _ provider: some PageProvider,
    _ delivery: Delivery,
    _ threads: Int,
    _ order: TouchOrder,
    leastFaults: Int? = nil
  ) throws -> AllocationCase {
    let runtime = try FaultRuntime(
      FaultRuntimeConfiguration(
        delivery: delivery,
        onFailure: { failure in Diagnostics.failImmediately("\(failure)") }
      )
    )
    // `ZeroProvider` takes requests of any size. Without this advice, the warm-up would bring every page.
    let advice: RegionOptions.Advice = provider is ZeroProvider ? .random : .normal
    let region = try runtime.map(
      provider, byteCount: order.units.count * order.stride, options: RegionOptions(advice: advice))
    defer { region.close() }
    let crew = unsafe try TouchCrew(
      threads: threads,
      base: region.unsafeBytes.baseAddress!,
      order: order,
      warmUp: Self.warmUpFaults
    )

    crew.warmUp()
    let statisticsBefore = runtime.statistics
    let before = allocation_count()
    crew.touch()
    let allocations = Int(allocation_count() - before)
    let after = runtime.statistics
    try crew.finish()

    return AllocationCase(
      name: name,
      delivery: delivery.rawValue,
      threads: threads,
      faults: after.faults - statisticsBefore.faults,
      batches: after.batches - statisticsBefore.batches,
      largestBatch: after.largestBatch,
      allocations: allocations,
      leastFaults: leastFaults ?? faults / 2
    )
  }
}

/// What was counted for one provider, delivery and number of threads.
struct AllocationCase: Encodable {
  var name: String
  var delivery: String
  var threads: Int
  var faults: Int
  var batches: Int
  var largestBatch: Int
  var allocations: Int
  /// The least number of faults that the case must have served for its count to mean anything.
  var leastFaults: Int
}

/// The result of the allocation benchmark.
struct AllocationReport: Encodable {
  /// How many of 1000 planted objects the counter saw.
  var selfCheck: Int
  /// The number of touches in each case, after the warm-up.
  var wanted: Int
  var cases: [AllocationCase]

  private static let header = ["provider", "delivery", "threads", "faults", "batches", "largest batch", "allocations"]

  var text: String {
    let rows = cases.map { one in
      [
        one.name, one.delivery, "\(one.threads)", "\(one.faults)", "\(one.batches)", "\(one.largestBatch)",
        "\(one.allocations)",
      ]
    }
    return """
      allocations of the whole process while faults are served (the counter saw \(selfCheck) of 1000 planted objects)
      \(table([Self.header] + rows))
      """
  }

  func failures(against thresholds: Thresholds) -> [String] {
    var failures = cases.filter { $0.allocations > thresholds.allocations }.map {
      "allocations: \($0.allocations) in \($0.faults) faults of \($0.name) (\($0.delivery)) "
        + "by \($0.threads) thread(s), more than \(thresholds.allocations)"
    }
    // A case with too few faults has measured something else.
    failures += cases.filter { $0.faults < $0.leastFaults }.map {
      "allocations: only \($0.faults) faults of \($0.name) (\($0.delivery)) by \($0.threads) thread(s) were counted"
    }
    // The path that serves several faults at once must have been part of the measurement.
    if !cases.contains(where: { $0.threads > 1 && $0.batches > 0 && $0.batches < $0.faults }) {
      failures.append("allocations: no read brought more than one fault, so batches were not exercised")
    }
    return failures
  }
}
