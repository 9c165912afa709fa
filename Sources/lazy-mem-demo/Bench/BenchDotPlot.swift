import Glibc

/// A logarithmic scale of nanoseconds, from left to right.
struct TimeScale {
  private let low: Double
  private let high: Double

  /// Creates a scale that covers the values, with a little room around them.
  init(_ values: [Double]) {
    let positive = values.filter { $0 > 0 }
    low = log10((positive.min() ?? 1) * 0.85)
    // The scale covers at least half a decade, so that it is usable if all values are equal.
    high = max(low + 0.5, log10((positive.max() ?? 10) * 1.15))
  }

  /// Returns the position of a value: 0 is the left end, and 1 the right end.
  func part(_ nanoseconds: Double) -> Double { (log10(max(nanoseconds, 0.1)) - low) / (high - low) }

  func percent(_ nanoseconds: Double) -> String { fixed(part(nanoseconds) * 100, 2) + "%" }

  /// Vertical lines at 1, 2 and 5 times the powers of ten, with their values below.
  var grid: String {
    let isWide = high - low > 4.5
    return (-1...12).flatMap { exponent in [1.0, 2, 5].map { ($0, pow(10, Double(exponent)) * $0) } }
      .filter { (low...high).contains(log10($0.1)) }
      .map { mantissa, value in
        let x = percent(value)
        let kind = mantissa == 1 ? "grid" : "grid minor"
        let line = "<line class=\"\(kind)\" x1=\"\(x)\" x2=\"\(x)\" y1=\"0\" y2=\"100%\"/>"
        guard mantissa == 1 || !isWide else { return line }
        let label = mantissa == 1 ? "tick" : "tick between"
        return line
          + "<text class=\"\(label)\" x=\"\(x)\" y=\"100%\" dy=\"17\" text-anchor=\"middle\">"
          + "\(Self.label(value))</text>"
      }.joined()
  }

  /// Returns the value with the unit that makes it short.
  static func label(_ nanoseconds: Double) -> String {
    let (value, unit) =
      nanoseconds < 999.5
      ? (nanoseconds, "ns") : nanoseconds < 999_500 ? (nanoseconds / 1e3, "us") : (nanoseconds / 1e6, "ms")
    let digits = value < 10 && (value - value.rounded()).magnitude > 0.04 ? 1 : 0
    return "\(fixed(value, digits)) \(unit)"
  }
}

/// A plot with one line for each contender and a dot for each round. It is a grid of HTML, so that its text keeps its
/// size in a narrow window. There the dots of a contender are below its name and its numbers, and have all the width.
struct BenchDotPlot {
  let groups: [(title: String, rows: [BenchReport.Row])]

  var html: String {
    let rows = groups.flatMap(\.rows)
    let scale = TimeScale(rows.flatMap(\.rounds))
    let sections = groups.map { group in
      "<div class=\"group\"><span>\(escaped(group.title))</span></div>\n"
        + group.rows.sorted { $0.nanosecondsPerPage < $1.nanosecondsPerPage }.map { line($0, scale) }
        .joined(separator: "\n")
    }
    return """
      <div class="plot">
      <svg class="back" aria-hidden="true">\(scale.grid)\(yardsticks(rows, scale))</svg>
      <div class="row"><div class="name"></div>\
      <svg class="dots" aria-hidden="true">\(yardstickNames(rows, scale))</svg>
      <div class="head">us/page</div><div class="head">x kernel</div><div class="head">x sigsegv</div></div>
      \(sections.joined(separator: "\n"))
      </div>
      """
  }

  private func line(_ row: BenchReport.Row, _ scale: TimeScale) -> String {
    let contender = row.contender
    let classes = "t-\(contender.tone.rawValue) f-\(contender.family.rawValue)"
    func dot(_ value: Double, _ kind: String, radius: String) -> String {
      "<circle class=\"dot \(kind) \(classes)\" cx=\"\(scale.percent(value))\" cy=\"50%\" r=\"\(radius)\"/>"
    }
    func ratio(_ value: Double?) -> String { value.map(shortRatio) ?? "-" }
    let about = "\(contender.name): \(contender.about)"
    let isChosen = contender.name == BenchContender.defaultChoice
    return """
      <div class="row"><div class="name\(isChosen ? " chosen" : "")" title="\(escaped(about))">\
      \(escaped(contender.name))</div>\
      <svg class="dots" role="img" aria-label="\(escaped(about))">\
      \(row.rounds.map { dot($0, "one", radius: "3") }.joined())\
      \(dot(row.nanosecondsPerPage, "middle", radius: "5"))</svg>\
      <div>\(shortMicroseconds(row.nanosecondsPerPage))</div>\
      <div>\(ratio(row.ratioToKernel))</div><div>\(ratio(row.ratioToSigsegv))</div></div>
      """
  }

  private func ofYardsticks(_ rows: [BenchReport.Row]) -> [BenchReport.Row] {
    rows.filter { [BenchContender.kernelYardstick, BenchContender.sigsegvYardstick].contains($0.contender.name) }
      .sorted { $0.nanosecondsPerPage < $1.nanosecondsPerPage }
  }

  private func yardsticks(_ rows: [BenchReport.Row], _ scale: TimeScale) -> String {
    ofYardsticks(rows).map { row in
      let x = scale.percent(row.nanosecondsPerPage)
      return "<line class=\"yardstick t-\(row.contender.tone.rawValue)\" x1=\"\(x)\" x2=\"\(x)\" y1=\"0\" y2=\"100%\"/>"
    }.joined()
  }

  /// Places the left name to the left of its line and the right name to the right, so that the two never overlap.
  private func yardstickNames(_ rows: [BenchReport.Row], _ scale: TimeScale) -> String {
    ofYardsticks(rows).enumerated().map { index, row in
      "<text x=\"\(scale.percent(row.nanosecondsPerPage))\" dx=\"\(index == 0 ? -3 : 3)\" y=\"14\" "
        + "text-anchor=\"\(index == 0 ? "end" : "start")\">\(row.contender.name)</text>"
    }.joined()
  }
}
