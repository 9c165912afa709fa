import FaultRuntime
import Glibc

/// Measures `PageBuffer.append`: existing bytes against memcpy, and computed bytes against a loop that writes through
/// a pointer. In each round every way appends the same pieces once, in shuffled order.
struct AppendBenchmark {
  private static let piece = 64 << 10
  private static let total = 64 << 20
  private static let pieces = total / piece

  private let rounds: Int
  private let plant: Bool
  private let bytes = (0..<AppendBenchmark.piece).map { UInt8(truncatingIfNeeded: $0 &* $0) }

  init(rounds: Int, plant: Bool) {
    self.rounds = rounds
    self.plant = plant
  }

  func run() throws -> AppendReport {
    let ways = AppendWay.allCases
    var taken = ways.map { _ in [Double]() }
    var generator = FixedGenerator(seed: 0xa99e)
    // The first round is a warm-up.
    for round in 0...rounds {
      for index in ways.indices.shuffled(using: &generator) {
        let nanoseconds = try append(ways[index])
        if round > 0 { taken[index].append(nanoseconds) }
      }
    }
    let cases = AppendWay.allCases.compactMap { way -> AppendCase? in
      guard let yardstick = way.yardstick else { return nil }
      let times = taken[way.rawValue]
      let others = taken[yardstick.rawValue]
      return AppendCase(
        name: way.name, yardstick: yardstick.name, isComputed: yardstick == .loop,
        milliseconds: median(times) / 1e6, yardstickMilliseconds: median(others) / 1e6,
        ratio: median(zip(times, others).map { $0 / $1 }))
    }
    return AppendReport(rounds: rounds, cases: cases)
  }

  /// Appends all pieces in one way, compares the last of them, and returns the time in nanoseconds.
  private func append(_ way: AppendWay) throws -> Double {
    var page = PageBuffer(byteCount: Self.piece)
    let clock = ContinuousClock()
    var elapsed = Duration.zero
    for index in 0..<Self.pieces {
      // Each piece needs a new buffer, because a buffer only grows. The allocator returns the same memory each time.
      page = PageBuffer(byteCount: Self.piece)
      let request = PageRequest(offset: index * Self.piece, byteCount: Self.piece)
      let start = clock.now
      try append(way, request, to: &page)
      elapsed += start.duration(to: clock.now)
    }
    let isRight = unsafe page.bytes.withUnsafeBytes { unsafe $0.elementsEqual(bytes) }
    guard isRight else { throw BenchmarkError("append: wrong bytes from \(way.name)") }
    return Double(elapsed.components.seconds) * 1e9 + Double(elapsed.components.attoseconds) / 1e9
  }

  @inline(never)
  private func append(_ way: AppendWay, _ request: PageRequest, to page: inout PageBuffer) throws {
    switch way {
    case .memcpy:
      unsafe page.appendUnsafely { free in
        unsafe bytes.withUnsafeBytes { source in
          _ = unsafe Glibc.memcpy(free.baseAddress!, source.baseAddress!, source.count)
          return source.count
        }
      }
    case .array: page.append(bytes)
    case .span: page.append(bytes.span)
    case .rawSpan: unsafe page.append(bytes.span.bytes)
    case .slice: page.append(bytes[...])
    case .wrapper: page.append(ContiguousBytes(bytes: bytes))
    case .loop: _ = try LoopingSquares().page(request, into: &page)
    case .squares:
      if plant {
        page.append(AnySequence(request.range.lazy.map { UInt8(truncatingIfNeeded: $0 &* $0) }))
      } else {
        _ = try Squares().page(request, into: &page)
      }
    }
  }
}

/// The ways to append that are compared. The raw values are indices.
private enum AppendWay: Int, CaseIterable {
  case memcpy, array, span, rawSpan, slice, wrapper, loop, squares

  var name: String {
    switch self {
    case .memcpy: "memcpy"
    case .array: "[UInt8]"
    case .span: "Span<UInt8>"
    case .rawSpan: "RawSpan"
    case .slice: "ArraySlice<UInt8>"
    case .wrapper: "a contiguous collection"
    case .loop: "loop"
    case .squares: "computed"
    }
  }

  var yardstick: AppendWay? {
    switch self {
    case .memcpy, .loop: nil
    case .array, .span, .rawSpan, .slice, .wrapper: .memcpy
    case .squares: .loop
    }
  }
}

/// A collection that the library does not know and whose bytes are contiguous.
private struct ContiguousBytes: RandomAccessCollection {
  let bytes: [UInt8]
  var startIndex: Int { bytes.startIndex }
  var endIndex: Int { bytes.endIndex }
  subscript(index: Int) -> UInt8 { bytes[index] }

  func withContiguousStorageIfAvailable<Result>(
    _ body: (UnsafeBufferPointer<UInt8>) throws -> Result
  ) rethrows -> Result? {
    unsafe try bytes.withUnsafeBufferPointer(body)
  }
}

/// The provider of the root README.
private struct Squares: PageProvider {
  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    page.append(request.range.lazy.map { UInt8(truncatingIfNeeded: $0 &* $0) })
    return .filled
  }
}

/// A provider that makes the same bytes with a plain loop.
private struct LoopingSquares: PageProvider {
  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    unsafe page.appendUnsafely { free in
      let bytes = unsafe free.baseAddress!.assumingMemoryBound(to: UInt8.self)
      var written = 0
      for offset in request.range {
        unsafe bytes[written] = UInt8(truncatingIfNeeded: offset &* offset)
        written &+= 1
      }
      return written
    }
    return .filled
  }
}

/// What one way to append cost, for all pieces together.
struct AppendCase: Encodable {
  var name: String
  var yardstick: String
  var isComputed: Bool
  var milliseconds: Double
  var yardstickMilliseconds: Double
  /// The median of the quotients of single rounds.
  var ratio: Double
}

/// The limits for the ways to append, as ratios to their yardsticks.
struct AppendGoals: Codable {
  /// The limit for existing bytes, against memcpy.
  var contiguous: Double
  /// The limit for computed bytes, against a loop.
  var computed: Double
}

/// The result of the append benchmark.
struct AppendReport: Encodable {
  var rounds: Int
  var cases: [AppendCase]
  /// How often everything was measured again, because a limit was not kept. Each case is the best one.
  private(set) var retries = 0

  init(rounds: Int, cases: [AppendCase]) {
    self.rounds = rounds
    self.cases = cases
  }

  mutating func measureAgain(_ other: AppendReport) {
    retries += 1
    cases = zip(cases, other.cases).map { $1.ratio < $0.ratio ? $1 : $0 }
  }

  var text: String {
    let rows = cases.map { one in
      [one.name, one.yardstick, fixed(one.milliseconds, 2), fixed(one.yardstickMilliseconds, 2), fixed(one.ratio, 2)]
    }
    let again = retries > 0 ? "; measured \(retries + 1) times" : ""
    return """
      appending 64 MiB in pieces of 64 KiB; ms, medians of \(rounds) rounds\(again)
      \(table([["bytes", "yardstick", "ms", "yardstick ms", "ratio"]] + rows))
      """
  }

  func failures(against thresholds: Thresholds) -> [String] {
    cases.compactMap { one in
      let limit = one.isComputed ? thresholds.append.computed : thresholds.append.contiguous
      guard !(one.ratio <= limit) else { return nil }
      return "append: \(one.name): \(fixed(one.ratio, 2)) times \(one.yardstick), more than \(fixed(limit, 2))"
    }
  }
}
