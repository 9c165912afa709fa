import FaultRuntime
import Histogram

/// The rounds of a benchmark.
struct BenchSession {
  /// What was measured for one contender.
  struct Measured {
    var contender: BenchContender
    var latency = Histogram<UInt32>(
      highestTrackableValue: BenchSession.longestTracked, numberOfSignificantValueDigits: .three)
    /// The wall time of each round, divided by the number of pages.
    var roundNanosecondsPerPage: [Double] = []
    /// The faults of all rounds; only the library counts them.
    var faults = 0
    var choice: DeliveryChoice?
  }

  private static let longestTracked: UInt64 = 100_000_000_000
  /// Enough pages to run every line of code once.
  private static let trialPages = 64

  let source: BenchSource
  let cpus: [Int]
  private(set) var leftOut: [LeftOut] = []
  private(set) var measured: [Measured] = []
  private var touch: BenchTouch

  /// Tries each contender on a few pages, and leaves out the contenders that this host does not allow.
  ///
  /// - Throws: The library's first error, if this host allows none of the library's contenders.
  init(
    _ contenders: [BenchContender], _ source: BenchSource, cpus: [Int], touch: BenchTouch, order: TouchOrder
  ) throws {
    self.source = source
    self.cpus = cpus
    self.touch = touch
    let pages = touch.order.count
    var trial = BenchTouch(
      pages: min(pages, Self.trialPages), order: order, threads: min(touch.threads, pages, Self.trialPages),
      access: touch.access)
    var refusal: FaultRuntimeError?
    for contender in contenders {
      do {
        if contender.name == BenchContender.sigsegvYardstick, order == .random { try Self.checkMappings(for: pages) }
        _ = try contender.serve(source, &trial, cpus: cpus)
        measured.append(Measured(contender: contender))
      } catch let error as CannotStart {
        leftOut.append(LeftOut(name: contender.name, reason: error.reason))
        refusal = refusal ?? error.cause
      }
    }
    if let refusal, !measured.contains(where: { $0.contender.family == .library }) { throw refusal }
  }

  /// Throws `CannotStart` if touching `pages` pages of PROT_NONE memory in random order could exceed
  /// vm.max_map_count. When half of the pages are open, the memory consists of about half as many mappings as pages.
  private static func checkMappings(for pages: Int) throws(CannotStart) {
    let text = contents(of: "/proc/sys/vm/max_map_count")
    guard let limit = Int(text.prefix { $0.isNumber }), pages / 2 + 1000 > limit else { return }
    throw CannotStart(
      reason: "\(pages) pages in random order need more mappings than vm.max_map_count (\(limit)) allows")
  }

  /// Runs each contender once, in shuffled order, so that other activity of the machine affects all contenders alike.
  mutating func runRound(_ generator: inout some RandomNumberGenerator, progress: (Double) -> Void) throws {
    for (done, index) in measured.indices.shuffled(using: &generator).enumerated() {
      progress(Double(done) / Double(measured.count))
      do {
        let served = try measured[index].contender.serve(source, &touch, cpus: cpus)
        measured[index].roundNanosecondsPerPage.append(Double(served.nanoseconds) / Double(touch.order.count))
        measured[index].faults += served.faults ?? 0
        measured[index].choice = served.choice
      } catch let error as CannotStart {
        throw CommandFailure(message: "\(measured[index].contender.name) started before, and now \(error.reason)")
      }
      for sample in touch.samples { _ = measured[index].latency.record(min(sample, Self.longestTracked)) }
    }
  }
}
