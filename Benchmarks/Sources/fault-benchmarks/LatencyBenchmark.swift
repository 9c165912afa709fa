import FaultRuntime
import Glibc
import Histogram

/// Touches every page of a fresh mapping once, in random order, and takes the time of each touch; the contenders take
/// turns in an order that is shuffled for each round, so that whatever the machine does meanwhile hits them alike.
struct LatencyBenchmark {
  private static let longestTracked: UInt64 = 10_000_000_000

  private let options: LatencyOptions
  private let contenders: [any Contender]

  init(_ options: LatencyOptions, plant: Bool) {
    self.options = options
    var contenders: [any Contender] = [
      CEpollContender(name: "c-epoll"),
      EventLoopContender(plant: plant ? .latency : nil),
      // The same program twice: how far this one is from 1 is how far the machine can be trusted.
      CEpollContender(name: "c-epoll again"),
    ]
    if options.awake {
      // The request is for the whole machine, but stands only while this contender has its turn.
      contenders += [false, true].map { awake in
        EventLoopContender(
          name: awake ? "scheduler, awake" : "scheduler", placement: .scheduler, keepsCPUsAwake: awake)
      }
    }
    self.contenders = contenders
  }

  func run() throws -> LatencyReport {
    touchFreeMemory()
    let memory = SourceMemory(pages: options.pages)
    let order = TouchOrder(
      shuffling: options.pages,
      stride: memory.pageSize,
      multiplier: SourceMemory.multiplier
    )
    let emptyHistogram = Histogram<UInt32>(
      highestTrackableValue: Self.longestTracked,
      numberOfSignificantValueDigits: .three
    )
    var histograms = contenders.map { _ in emptyHistogram }
    var roundMedians = contenders.map { _ in [Double]() }
    var samples = [UInt64](repeating: 0, count: options.pages)
    var generator = FixedGenerator(seed: 0xdea1)

    for _ in 0..<options.rounds {
      for index in contenders.indices.shuffled(using: &generator) {
        try unsafe contenders[index].serve(memory) { base in
          try unsafe samples.withUnsafeMutableBufferPointer { buffer in
            try unsafe order.touch(base, 0..<options.pages, nanoseconds: buffer.baseAddress)
          }
        }
        for sample in samples { _ = histograms[index].record(min(sample, Self.longestTracked)) }
        roundMedians[index].append(median(samples.map(Double.init)))
      }
    }
    return LatencyReport(
      pages: options.pages,
      rounds: options.rounds,
      contenders: contenders.indices.map { index in
        ContenderLatency(
          name: contenders[index].name,
          histogram: histograms[index],
          roundMedians: roundMedians[index],
          reference: roundMedians[0]
        )
      }
    )
  }

  /// The host of a virtual machine backs memory when it is first touched, which takes longer than any fault of ours.
  private func touchFreeMemory() {
    let byteCount = options.touchMebibytes << 20
    guard byteCount > 0 else { return }
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 64)
    _ = unsafe memory.initializeMemory(as: UInt8.self, repeating: 1)
    unsafe memory.deallocate()
  }
}

/// The latency of one contender, in nanoseconds and in units of the first contender's.
struct ContenderLatency: Encodable {
  var name: String
  /// Percentiles over the touches of all rounds.
  var p50: UInt64
  var p90: UInt64
  var p99: UInt64
  var p999: UInt64
  /// The median over the rounds of the median touch of a round.
  var medianOfRounds: Double
  /// That, divided by the C handler's.
  var ratio: Double
  /// The median over the rounds of the quotient within a round.
  var medianOfRoundRatios: Double
  /// How far the rounds lie apart: the distance of the quartiles of their medians, as a part of the median.
  var spread: Double

  init(name: String, histogram: Histogram<UInt32>, roundMedians: [Double], reference: [Double]) {
    self.name = name
    p50 = histogram.valueAtPercentile(50)
    p90 = histogram.valueAtPercentile(90)
    p99 = histogram.valueAtPercentile(99)
    p999 = histogram.valueAtPercentile(99.9)
    let middle = median(roundMedians)
    medianOfRounds = middle
    ratio = middle / median(reference)
    medianOfRoundRatios = median(zip(roundMedians, reference).map { $0 / $1 })
    let sorted = roundMedians.sorted()
    spread = (sorted[sorted.count * 3 / 4] - sorted[sorted.count / 4]) / middle
  }
}

/// What the latency benchmark found.
struct LatencyReport: Encodable {
  var pages: Int
  var rounds: Int
  var contenders: [ContenderLatency]

  private static let header = [
    "contender", "p50 us", "p90 us", "p99 us", "p99.9 us", "x c-epoll", "x within rounds", "spread",
  ]

  var text: String {
    let rows = contenders.map { contender in
      [contender.name]
        + [contender.p50, contender.p90, contender.p99, contender.p999].map { fixed(Double($0) / 1000, 2) }
        + [
          fixed(contender.ratio, 3), fixed(contender.medianOfRoundRatios, 3), fixed(contender.spread * 100, 1) + " %",
        ]
    }
    return """
      latency of a touch: \(pages) pages of a fresh mapping in random order, \(rounds) rounds
      \(table([Self.header] + rows))
      \(quietness)
      """
  }

  /// Whether the numbers can be believed: the C handler is its own control.
  private var quietness: String {
    let controls = contenders.filter { $0.name != EventLoopContender.name }
    let drift = controls.map { abs($0.medianOfRoundRatios - 1) }.max() ?? 0
    let spread = controls.map(\.spread).max() ?? 0
    let verdict =
      drift < 0.03 && spread < 0.15
      ? "the machine looks quiet" : "the machine is NOT quiet: run it again before you believe the numbers"
    return "\(verdict) (the C handler differs from itself by \(fixed(drift * 100, 1)) %)"
  }

  /// The ratio within rounds is judged, because what the machine does between rounds cancels out of it.
  func failures(against thresholds: Thresholds) -> [String] {
    contenders.filter { $0.name == EventLoopContender.name && !($0.medianOfRoundRatios <= thresholds.latencyRatio) }
      .map {
        "latency: the median touch takes \(fixed($0.medianOfRoundRatios, 3)) times that of the C handler, more than "
          + fixed(thresholds.latencyRatio, 2)
      }
  }
}
