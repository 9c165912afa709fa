import Glibc
import Histogram

/// Shows for some contenders which part of all touches took at most how long. The figure is as wide as its container;
/// the style sheet sets its height.
struct BenchCurves {
  /// The lowest and the highest part that is shown, on the scale of `stretched`.
  private static let lowest = stretched(0.05)
  private static let highest = stretched(0.9999)
  private static let side = 1000.0

  /// Each row with its number, which connects a curve with its check box.
  let rows: [(number: Int, row: BenchReport.Row)]
  /// The row that is drawn faintly behind the others for comparison.
  let yardstick: BenchReport.Row?
  let scale: TimeScale

  /// Returns the logarithm of the odds. The median is at 0, and each further nine of a percentile takes equal room.
  private static func stretched(_ part: Double) -> Double { log10(part / (1 - part)) }

  /// Returns the distance from the top, as a part of the height.
  private static func y(_ part: Double) -> Double { 1 - (stretched(part) - lowest) / (highest - lowest) }

  /// Returns a scale that covers the values of all figures, so that the figures can be compared.
  static func scale(of rows: [BenchReport.Row]) -> TimeScale {
    TimeScale(rows.flatMap { points($0).map(\.value) })
  }

  var svg: String {
    let levels = [0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999].map { part in
      let y = fixed(Self.y(part) * 100, 2)
      let digits = part > 0.9985 ? part > 0.9995 ? 2 : 1 : 0
      return """
        <line class="grid" x1="0" x2="100%" y1="\(y)%" y2="\(y)%"/>\
        <text x="-8" y="\(y)%" dy="4" text-anchor="end">\(fixed(part * 100, digits)) %</text>
        """
    }
    let lines = rows.map { number, row in
      """
      <g class="curve c\(number)"><title>\(escaped(row.contender.name))</title>\
      <path class="\(row.contender.lineClass)" d="\(path(row))"/></g>
      """
    }
    let faint = yardstick.map { "<path class=\"line faint\" d=\"\(path($0))\"/>" } ?? ""
    let side = fixed(Self.side, 0)
    return """
      <svg class="figure curves" role="img" aria-label="Distribution of the latency of a touch">
      \(scale.grid)
      \(levels.joined())
      <svg width="100%" height="100%" viewBox="0 0 \(side) \(side)" preserveAspectRatio="none">
      \(faint)\(lines.joined(separator: "\n"))
      </svg>
      </svg>
      """
  }

  private func path(_ row: BenchReport.Row) -> String {
    Self.points(row).enumerated().map { number, point in
      let x = fixed(scale.part(point.value) * Self.side, 1)
      return "\(number == 0 ? "M" : "L")\(x) \(fixed(Self.y(point.part) * Self.side, 1))"
    }.joined()
  }

  private struct Point {
    var value: Double
    var part: Double
  }

  /// Returns the curve of a histogram, with no more points than are visible.
  private static func points(_ row: BenchReport.Row) -> [Point] {
    let total = Double(row.latency.totalCount)
    var points: [Point] = []
    var lastY = Double.infinity
    for step in row.latency.recordedValues() {
      let part = Double(step.totalCountToThisValue) / total
      guard part >= 0.05 else { continue }
      // The curve ends at the highest part that is shown, so the slowest touch appears only if there are few touches.
      let shown = min(part, 0.9999)
      let y = Self.y(shown) * side
      if points.isEmpty || lastY - y > 3 || shown == 0.9999 {
        points.append(Point(value: Double(step.value), part: shown))
        lastY = y
      }
      if shown == 0.9999 { break }
    }
    // If all touches took equally long, the curve needs a second point.
    if points.count == 1, let only = points.first { points.insert(Point(value: only.value, part: 0.05), at: 0) }
    return points
  }
}
