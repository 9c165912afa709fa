// The report as one page for a browser: nothing in it comes from elsewhere, and nothing in it runs.

extension BenchReport {
  /// HTML with its style and its figures inside.
  func page() -> String {
    """
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Page faults, side by side</title>
    <style>
    \(Self.style)
    \(highlightingStyle)
    </style>
    </head>
    <body>
    <main>
    <h1>Page faults, side by side</h1>
    <p class="lead">\(escaped(summary)).</p>
    \(verdict)
    <dl class="machine">\(machine.rows.map { "<div><dt>\($0.0)</dt><dd>\(escaped($0.1))</dd></div>" }.joined())</dl>

    <section>
    <h2>Time per page</h2>
    <p>Each round is a small dot, the median of the rounds a large one, hollow for C; the fastest on top. The scale is
    logarithmic. Dotted lines are the yardsticks.</p>
    \(BenchDotPlot(rows: rows).svg)
    </section>

    <section>
    <h2>How long a touch takes</h2>
    <p>For each contender, what part of all touches took at most so long. Further left is faster, and a steep curve means that
    touches are alike. Both scales are stretched so that the middle and the last in ten thousand can be read from one figure.
    Solid: FaultRuntime, and the kernel alone. Dashed: C. Point at a name to see its curve alone; untick it to take it away.</p>
    \(legend)
    \(BenchCurves(rows: rows).svg)
    </section>

    <section>
    <h2>Numbers</h2>
    <div class="scroll">\(numbers)</div>
    \(leftOutList)
    <ul class="notes">\(notes.map { "<li>\(escaped($0))</li>" }.joined())</ul>
    </section>
    </main>
    </body>
    </html>

    """
  }

  private var verdict: String {
    guard !warnings.isEmpty else { return "<p class=\"quiet\">The machine looks quiet.</p>" }
    let items = warnings.map { "<li>\(escaped($0))</li>" }.joined()
    return "<div class=\"warning\" role=\"note\"><strong>Read the numbers with care.</strong><ul>\(items)</ul></div>"
  }

  /// Check boxes, so that a curve can be taken away.
  private var legend: String {
    let groups = BenchContender.Family.allCases.map { family in
      let items = rows.indices.filter { rows[$0].contender.family == family }.map { index in
        let contender = rows[index].contender
        return """
          <label class="key k\(index)">\
          <input type="checkbox" id="show\(index)" checked>\
          <svg viewBox="0 0 34 10" aria-hidden="true"><path class="\(contender.lineClass)" d="M1 5H33"/></svg>\
          <span class="name">\(escaped(contender.name))</span> \
          <span class="about">\(escaped(contender.about))</span></label>
          """
      }
      guard !items.isEmpty else { return "" }
      return "<fieldset><legend>\(family.title)</legend>\(items.joined(separator: "\n"))</fieldset>"
    }
    return "<div class=\"legend\">\(groups.joined(separator: "\n"))</div>"
  }

  private var numbers: String {
    let head = Self.header.map { "<th scope=\"col\">\(escaped($0))</th>" }.joined()
    let body = rows.map { row in
      let cells = Self.cells(row)
      let swatch =
        "<svg viewBox=\"0 0 20 10\" aria-hidden=\"true\"><path class=\"\(row.contender.lineClass)\" d=\"M1 5H19\"/></svg>"
      return "<tr><th scope=\"row\" title=\"\(escaped(row.contender.about))\">\(swatch)\(escaped(cells[0]))</th>"
        + cells.dropFirst().map { "<td>\(escaped($0))</td>" }.joined() + "</tr>"
    }.joined(separator: "\n")
    return "<table><thead><tr>\(head)</tr></thead><tbody>\n\(body)\n</tbody></table>"
  }

  private var leftOutList: String {
    guard !leftOut.isEmpty else { return "" }
    let items = leftOut.map { "<li><span class=\"name\">\(escaped($0.name))</span>: \(escaped($0.reason))</li>" }
    return "<h3>Left out on this host</h3><ul class=\"notes\">\(items.joined())</ul>"
  }

  /// One rule for each contender, since a style sheet cannot say "the curve of the box that is not ticked".
  private var highlightingStyle: String {
    rows.indices.map { index in
      """
      main:has(#show\(index):not(:checked)) .curve.c\(index) { display: none; }
      main:has(.k\(index):hover) .curve:not(.c\(index)) { opacity: .12; }
      main:has(.k\(index):hover) .curve.c\(index) path { stroke-width: 4; }
      """
    }.joined(separator: "\n")
  }
}

extension BenchContender {
  /// Class names that give a line its colour and its pattern.
  var lineClass: String { "line t-\(tone.rawValue) f-\(family.rawValue)" }
}

/// `text` with what HTML would take for its own replaced.
func escaped(_ text: String) -> String {
  text.reduce(into: "") { result, character in
    switch character {
    case "&": result += "&amp;"
    case "<": result += "&lt;"
    case ">": result += "&gt;"
    case "\"": result += "&quot;"
    default: result.append(character)
    }
  }
}
