import Glibc
import Histogram

/// What part of all touches took at most how long, for each contender.
struct BenchCurves {
  private static let left = 64.0
  private static let width = 1010.0
  private static let top = 14.0
  private static let height = 470.0
  /// The lowest and highest part that is shown, in units of `Self.stretched`.
  private static let lowest = stretched(0.05)
  private static let highest = stretched(0.9999)

  let rows: [BenchReport.Row]

  /// The logarithm of the odds: 0 is the middle, and each further nine takes as much room as the one before.
  private static func stretched(_ part: Double) -> Double { log10(part / (1 - part)) }

  private static func y(_ part: Double) -> Double {
    top + height * (1 - (stretched(part) - lowest) / (highest - lowest))
  }

  var svg: String {
    let curves = rows.map(points)
    let scale = TimeScale(curves.flatMap { $0.map(\.value) }, left: Self.left, width: Self.width)
    let bottom = Self.top + Self.height
    let levels = [0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999].map { part in
      let y = fixed(Self.y(part), 1)
      let digits = part > 0.9985 ? part > 0.9995 ? 2 : 1 : 0
      return """
        <path class="grid" d="M\(fixed(Self.left, 0)) \(y)H\(fixed(Self.left + Self.width, 0))"/>\
        <text x="\(fixed(Self.left - 8, 0))" y="\(y)" dy="4" text-anchor="end">\(fixed(part * 100, digits)) %</text>
        """
    }
    let lines = rows.indices.map { index in
      let path = curves[index].enumerated().map { number, point in
        "\(number == 0 ? "M" : "L")\(fixed(scale.x(point.value), 1)) \(fixed(Self.y(point.part), 1))"
      }
      let contender = rows[index].contender
      return """
        <g class="curve c\(index)"><title>\(escaped(contender.name))</title>\
        <path class="\(contender.lineClass)" d="\(path.joined())"/></g>
        """
    }
    return """
      <svg class="figure" viewBox="0 0 1100 \(fixed(bottom + 44, 0))" role="img" aria-label="Distribution of the latency of a touch">
      \(scale.grid(top: Self.top, bottom: bottom))
      \(levels.joined())
      \(lines.joined(separator: "\n"))
      <text x="\(fixed(Self.left + Self.width / 2, 0))" y="\(fixed(bottom + 38, 0))" text-anchor="middle">latency of a touch</text>
      </svg>
      """
  }

  private struct Point {
    var value: Double
    var part: Double
  }

  /// The curve of a histogram, with no more points than can be seen.
  private func points(_ row: BenchReport.Row) -> [Point] {
    let total = Double(row.latency.totalCount)
    var points: [Point] = []
    var lastY = Double.infinity
    for step in row.latency.recordedValues() {
      let part = Double(step.totalCountToThisValue) / total
      guard part >= 0.05 else { continue }
      // The slowest touch is not in the figure unless it is one of few.
      let shown = min(part, 0.9999)
      let y = Self.y(shown)
      if points.isEmpty || lastY - y > 1.5 || shown == 0.9999 {
        points.append(Point(value: Double(step.value), part: shown))
        lastY = y
      }
      if shown == 0.9999 { break }
    }
    // All touches took equally long: a curve needs a second point.
    if points.count == 1, let only = points.first { points.insert(Point(value: only.value, part: 0.05), at: 0) }
    return points
  }
}
