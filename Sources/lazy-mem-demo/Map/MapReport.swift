import FaultRuntime
import FoundationEssentials
import Histogram

/// The result of `map`, as text for people and as JSON for programs.
struct MapReport: Encodable {
  struct Latency: Encodable {
    var p50: UInt64
    var p90: UInt64
    var p99: UInt64
    var p999: UInt64
    var max: UInt64
  }

  var path: String
  /// The sum of the touched bytes; nil if they are not the beginning of the file.
  var sha256: String?
  var bytes: Int
  var bytesTouched: Int
  var pages: Int
  var faults: Int
  var batches: Int
  var largestBatch: Int
  var bytesFilled: Int
  var wallSeconds: Double
  var latencyNanoseconds: Latency
  var order: String
  var threads: Int
  var delivery: String
  var descriptor: String

  private enum CodingKeys: String, CodingKey {
    case sha256, bytes, bytesTouched, pages, faults, batches, largestBatch, bytesFilled, wallSeconds
    case latencyNanoseconds, delivery, descriptor
  }

  init(
    path: String, sum: String?, region: LazyRegion, touch: TouchResult, command: MapCommand, runtime: FaultRuntime
  ) {
    let statistics = runtime.statistics
    self.path = path
    sha256 = sum
    bytes = region.byteCount
    bytesTouched = touch.byteCount
    pages = touch.pages
    faults = statistics.faults
    batches = statistics.batches
    largestBatch = statistics.largestBatch
    bytesFilled = statistics.bytesFilled
    wallSeconds = touch.seconds
    latencyNanoseconds = Latency(
      p50: touch.latency.valueAtPercentile(50),
      p90: touch.latency.valueAtPercentile(90),
      p99: touch.latency.valueAtPercentile(99),
      p999: touch.latency.valueAtPercentile(99.9),
      max: touch.latency.maxRecorded
    )
    order = command.order.rawValue
    threads = command.threads
    delivery = region.delivery.rawValue
    descriptor = region.descriptor?.rawValue ?? "none"
  }

  func json() throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .prettyPrinted]
    return String(decoding: try encoder.encode(self), as: UTF8.self)
  }

  func text(_ layout: TextLayout = TextLayout()) -> String {
    let latency = latencyNanoseconds
    let part = "\(ByteCount(bytesTouched).text) of it" + (sha256 == nil ? "" : ", which are those of the sum")
    var rows = [
      ("file", TextLayout.unbroken(path)),
      ("sha256", sha256 ?? "none, because pages from all over the file were touched"),
      ("size", ByteCount(bytes).text),
    ]
    if bytesTouched < bytes { rows.append(("touched", part)) }
    rows += [
      ("pages", "\(pages) touched in \(order) order by \(threads) \(threads == 1 ? "thread" : "threads")"),
      ("faults", "\(faults) in \(batches) batches, the largest of \(largestBatch)"),
      ("filled", ByteCount(bytesFilled).text),
      ("time", "\(fixed(wallSeconds, 3)) s, \(fixed(Double(bytesTouched) / 1e6 / max(wallSeconds, 1e-9), 0)) MB/s"),
      (
        "latency",
        [
          ("p50", latency.p50), ("p90", latency.p90), ("p99", latency.p99), ("p99.9", latency.p999),
          ("max", latency.max),
        ].map { TextLayout.unbroken("\($0.0) \(microseconds($0.1)) ") }.joined(separator: " ")
      ),
      ("delivery", delivery),
      ("descriptor", descriptor),
    ]
    return rows.map { layout.wrapped($0.1, start: TextLayout.padded($0.0, 12), indent: 12).joined(separator: "\n") }
      .joined(separator: "\n")
  }
}

private func microseconds(_ nanoseconds: UInt64) -> String { fixed(Double(nanoseconds) / 1000, 1) + " us" }
