import Glibc

/// A logarithmic scale of nanoseconds, from left to right.
struct TimeScale {
  private let low: Double
  private let high: Double
  private let left: Double
  private let width: Double

  /// Covers the values with a little room around them.
  init(_ values: [Double], left: Double, width: Double) {
    let positive = values.filter { $0 > 0 }
    low = log10((positive.min() ?? 1) * 0.85)
    // At least half a decade, so that there is a scale at all.
    high = max(low + 0.5, log10((positive.max() ?? 10) * 1.15))
    self.left = left
    self.width = width
  }

  func x(_ nanoseconds: Double) -> Double { left + (log10(max(nanoseconds, 0.1)) - low) / (high - low) * width }

  /// Lines at 1, 2 and 5 times the powers of ten, from `top` to `bottom`, and what they mean.
  func grid(top: Double, bottom: Double) -> String {
    let isWide = high - low > 4.5
    return (-1...12).flatMap { exponent in [1.0, 2, 5].map { ($0, pow(10, Double(exponent)) * $0) } }
      .filter { (low...high).contains(log10($0.1)) }
      .map { mantissa, value in
        let position = fixed(x(value), 1)
        let kind = mantissa == 1 ? "grid" : "grid minor"
        let line = "<path class=\"\(kind)\" d=\"M\(position) \(fixed(top, 1))V\(fixed(bottom, 1))\"/>"
        guard mantissa == 1 || !isWide else { return line }
        return line
          + "<text x=\"\(position)\" y=\"\(fixed(bottom + 17, 1))\" text-anchor=\"middle\">\(Self.label(value))</text>"
      }.joined()
  }

  /// With a unit that makes it short.
  static func label(_ nanoseconds: Double) -> String {
    let (value, unit) =
      nanoseconds < 999.5
      ? (nanoseconds, "ns") : nanoseconds < 999_500 ? (nanoseconds / 1e3, "us") : (nanoseconds / 1e6, "ms")
    let digits = value < 10 && (value - value.rounded()).magnitude > 0.04 ? 1 : 0
    return "\(fixed(value, digits)) \(unit)"
  }
}

/// Contenders one below the other, each round a dot.
struct BenchDotPlot {
  private static let left = 190.0
  private static let width = 690.0
  private static let timeColumn = 950.0
  private static let kernelColumn = 1022.0
  private static let sigsegvColumn = 1094.0
  private static let lineHeight = 24.0
  private static let top = 26.0

  let rows: [BenchReport.Row]

  var svg: String {
    let sorted = rows.sorted { $0.nanosecondsPerPage < $1.nanosecondsPerPage }
    let scale = TimeScale(rows.flatMap(\.rounds), left: Self.left, width: Self.width)
    let bottom = Self.top + Self.lineHeight * Double(rows.count)
    let lines = sorted.enumerated().map { index, row in
      line(row, scale, y: Self.top + Self.lineHeight * (Double(index) + 0.5))
    }
    return """
      <svg class="figure" viewBox="0 0 1100 \(fixed(bottom + 26, 0))" role="img" aria-label="Time per page of each contender">
      \(scale.grid(top: Self.top, bottom: bottom))
      \(heads)
      \(yardsticks(scale, bottom: bottom))
      \(lines.joined(separator: "\n"))
      </svg>
      """
  }

  private func line(_ row: BenchReport.Row, _ scale: TimeScale, y: Double) -> String {
    let contender = row.contender
    let classes = "t-\(contender.tone.rawValue) f-\(contender.family.rawValue)"
    let middle = fixed(y, 1)
    let baseline = fixed(y + 4.5, 1)
    func dot(_ value: Double, _ kind: String, radius: String) -> String {
      let x = fixed(scale.x(value), 1)
      return "<circle class=\"dot \(kind) \(classes)\" cx=\"\(x)\" cy=\"\(middle)\" r=\"\(radius)\"/>"
    }
    func text(_ text: String, _ kind: String, _ x: Double) -> String {
      "<text class=\"\(kind)\" x=\"\(fixed(x, 0))\" y=\"\(baseline)\" text-anchor=\"end\">\(escaped(text))</text>"
    }
    return """
      <g><title>\(escaped(contender.name)): \(escaped(contender.about))</title>\
      \(text(contender.name, "name", Self.left - 14))\
      \(row.rounds.map { dot($0, "one", radius: "3") }.joined())\
      \(dot(row.nanosecondsPerPage, "middle", radius: "5.5"))\
      \(text(fixed(row.nanosecondsPerPage / 1000, 2), "value", Self.timeColumn))\
      \(text(row.ratioToKernel.map { fixed($0, 2) } ?? "-", "value", Self.kernelColumn))\
      \(text(row.ratioToSigsegv.map { fixed($0, 2) } ?? "-", "value", Self.sigsegvColumn))</g>
      """
  }

  /// What the numbers on the right are.
  private var heads: String {
    [("us per page", Self.timeColumn), ("x kernel", Self.kernelColumn), ("x sigsegv", Self.sigsegvColumn)].map {
      "<text x=\"\(fixed($0.1, 0))\" y=\"\(fixed(Self.top - 10, 1))\" text-anchor=\"end\">\($0.0)</text>"
    }.joined()
  }

  private func yardsticks(_ scale: TimeScale, bottom: Double) -> String {
    rows.filter { [BenchContender.kernelYardstick, BenchContender.sigsegvYardstick].contains($0.contender.name) }
      .map { row in
        let x = fixed(scale.x(row.nanosecondsPerPage), 1)
        return """
          <path class="yardstick t-\(row.contender.tone.rawValue)" d="M\(x) \(fixed(Self.top - 4, 1))V\(fixed(bottom, 1))"/>\
          <text x="\(x)" y="\(fixed(Self.top - 10, 1))" text-anchor="middle">\(row.contender.name)</text>
          """
      }.joined()
  }
}
