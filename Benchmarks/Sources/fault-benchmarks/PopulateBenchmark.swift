import CReference
import FaultRuntime
import Glibc

/// Compares `populate()` with every way to fill memory in bulk in C. In each round every contender runs once, in
/// shuffled order.
struct PopulateBenchmark {
  private enum Contender: CaseIterable {
    case reference(creference_bulk_way)
    case library(Delivery)

    static var allCases: [Contender] {
      (0..<UInt32(CREFERENCE_BULK_WAYS)).map { .reference(creference_bulk_way(rawValue: $0)) }
        + [.library(.sigbus), .library(.eventLoop)]
    }

    var name: String {
      switch self {
      case .reference(let way): unsafe String(cString: creference_bulk_name(way))
      case .library(let delivery): "populate(), \(delivery)"
      }
    }
  }

  private let options: PopulateOptions

  init(_ options: PopulateOptions) {
    self.options = options
  }

  func run() throws -> PopulateReport {
    let byteCount = options.mebibytes << 20
    let pageSize = sysconf(Int32(_SC_PAGESIZE))
    var fd: CInt = -1
    var error: CInt = 0
    guard let source = unsafe creference_source_create(byteCount, pageSize, &fd, &error) else {
      throw BenchmarkError("no memory for a source of \(byteCount) bytes (\(KernelErrno(rawValue: error)))")
    }
    defer { unsafe creference_source_destroy(source, byteCount, fd) }

    let contenders = Contender.allCases
    var filled = contenders.map { _ in [creference_filled]() }
    var generator = FixedGenerator(seed: 0xb01c)
    for _ in 0..<options.rounds {
      for index in contenders.indices.shuffled(using: &generator) {
        if !options.cold { creference_touch_free_huge_pages(byteCount + byteCount / 8) }
        let result =
          switch contenders[index] {
          case .reference(let way): unsafe creference_fill(way, byteCount, source)
          case .library(let delivery):
            try unsafe populate(UnsafeRawBufferPointer(start: source, count: byteCount), delivery)
          }
        guard result.wrong == 0 else {
          throw BenchmarkError("\(contenders[index].name): \(result.wrong) pages are not what the source has")
        }
        filled[index].append(result)
      }
    }
    return PopulateReport(
      mebibytes: options.mebibytes,
      rounds: options.rounds,
      contenders: contenders.indices.map { index in
        PopulateReport.Contender(contenders[index].name, filled[index], yardstick: filled[0], byteCount / pageSize)
      })
  }

  private func populate(_ source: UnsafeRawBufferPointer, _ delivery: Delivery) throws -> creference_filled {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
    let region = try unsafe runtime.map(MemoryProvider(borrowing: source))
    defer { region.close() }
    var result = creference_filled()
    let clock = ContinuousClock()
    let time = try clock.measure { try region.populate() }
    result.nanoseconds = UInt64(time / .nanoseconds(1))
    unsafe result.wrong = creference_different_pages(region.unsafeBytes.baseAddress!, source.baseAddress!, source.count)
    return result
  }
}

/// The result of the populate benchmark. Every time is a median over the rounds, in nanoseconds for each page.
struct PopulateReport: Encodable {
  struct Contender: Encodable {
    var name: String
    var nanoseconds: Double
    /// The time relative to the kernel's small faults: the median of the quotients of single rounds, followed by the
    /// least and the greatest of them.
    var ratio: Double
    var leastRatio: Double
    var greatestRatio: Double
    var preparing: Double
    var copying: Double
    var moving: Double

    init(_ name: String, _ filled: [creference_filled], yardstick: [creference_filled], _ pages: Int) {
      func perPage(_ time: KeyPath<creference_filled, UInt64>) -> Double {
        median(filled.map { Double($0[keyPath: time]) / Double(pages) })
      }
      let ratios = zip(filled, yardstick).map { Double($0.nanoseconds) / Double($1.nanoseconds) }
      self.name = name
      nanoseconds = perPage(\.nanoseconds)
      ratio = median(ratios)
      leastRatio = ratios.min() ?? 0
      greatestRatio = ratios.max() ?? 0
      preparing = perPage(\.preparing)
      copying = perPage(\.copying)
      moving = perPage(\.moving)
    }
  }

  var mebibytes: Int
  var rounds: Int
  var contenders: [Contender]

  private static let header = ["filling", "ns", "x small faults", "least", "most", "preparing", "copying", "moving"]

  var text: String {
    let rows = contenders.map { one in
      [one.name, fixed(one.nanoseconds, 0), fixed(one.ratio, 2), fixed(one.leastRatio, 2), fixed(one.greatestRatio, 2)]
        + [one.preparing, one.copying, one.moving].map { $0 > 0 ? fixed($0, 0) : "" }
    }
    return """
      filling \(mebibytes) MiB that nobody touches; ns for each page, medians of \(rounds) rounds; 0: the kernel cannot
      \(table([Self.header] + rows))
      """
  }
}
