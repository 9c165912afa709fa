// The report as one page for a browser. The page loads nothing and runs no script.

import FaultRuntime

extension BenchReport {
  /// Returns HTML that contains its style and its figures.
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
    \(tiles)
    \(verdict)
    <dl class="machine">\(machine.rows.map { "<div><dt>\($0.0)</dt><dd>\(escaped($0.1))</dd></div>" }.joined())</dl>

    <section>
    <h2>Time per page</h2>
    <p>Each round is a small dot, the median of the rounds a large one, hollow for C; the fastest of each group on top.
    The scale is logarithmic. Dotted lines are the yardsticks. Equal colours fill pages in the same way.</p>
    \(BenchDotPlot(groups: groups).html)
    </section>

    <section>
    <h2>How long a touch takes</h2>
    <p>For each contender, what part of all touches took at most so long. Further left is faster, and a steep curve
    means that touches are alike. Both scales are stretched so that the middle and the last in ten thousand can be read
    from one figure, and all figures have the same ones. Solid: FaultRuntime, and the kernel alone. Dashed: C. The faint
    line is
    \(BenchContender.kernelYardstick). Point at a name to see its curve alone; untick it to take it away.</p>
    \(curves)
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

  /// The numbers to remember.
  private var tiles: String {
    func tile(_ title: String, _ value: String, _ text: String) -> String {
      "<div class=\"tile\"><div class=\"title\">\(escaped(title))</div><div class=\"number\">\(escaped(value))</div>"
        + "<div class=\"text\">\(escaped(text))</div></div>"
    }
    func times(_ ratio: Double?) -> String { ratio.map { shortRatio($0) + " x" } ?? "-" }
    var tiles: [String] = []
    if let chosen, let choice = chosen.choice {
      tiles += [
        tile(
          "auto took \(choice.delivery.rawValue)", shortMicroseconds(chosen.nanosecondsPerPage) + " us a page",
          choice.reason + "; \(chosen.pagesText) pages a fault"),
        tile(
          "auto against the kernel", times(chosen.ratioToKernel),
          "\(BenchContender.kernelYardstick): an anonymous fault, then memcpy"),
        tile(
          "auto against SIGSEGV", times(chosen.ratioToSigsegv),
          "\(BenchContender.sigsegvYardstick): PROT_NONE, a handler, and mprotect"),
      ]
    }
    if let fastest {
      let single = fastestSingle.map { row in
        "; with a page a fault \(row.contender.name), \(shortMicroseconds(row.nanosecondsPerPage)) us"
      }
      tiles.append(
        tile(
          "fastest: \(fastest.contender.name)", shortMicroseconds(fastest.nanosecondsPerPage) + " us a page",
          "\(times(fastest.ratioToKernel)) kernel, \(times(fastest.ratioToSigsegv)) sigsegv" + (single ?? "")))
    }
    return "<div class=\"tiles\">\(tiles.joined(separator: "\n"))</div>"
  }

  /// One figure for each size of requests. The first one also shows the contenders of the kernel.
  private var curves: String {
    let scale = BenchCurves.scale(of: rows)
    let yardstick = rows.first { $0.contender.name == BenchContender.kernelYardstick }
    let shownGroups: [[BenchContender.Group]] = [[.kernel, .growing], [.several], [.single]]
    return shownGroups.map { groups in
      let members = rows.indices.filter { groups.contains(rows[$0].contender.group) }.map {
        (number: $0, row: rows[$0])
      }
      guard !members.isEmpty else { return "" }
      let title = groups.map(\.title).joined(separator: ", and ")
      let svg = BenchCurves(rows: members, yardstick: groups.contains(.kernel) ? nil : yardstick, scale: scale).svg
      return """
        <h3>\(title.prefix(1).uppercased() + title.dropFirst())</h3>
        <div class="distribution"><div class="frame">\(svg)</div>\(legend(members.map(\.number)))</div>
        """
    }.joined(separator: "\n")
  }

  /// Returns check boxes, with which a reader can hide curves.
  private func legend(_ numbers: [Int]) -> String {
    let items = numbers.map { index in
      let contender = rows[index].contender
      return """
        <label class="key k\(index)">\
        <input type="checkbox" id="show\(index)" checked>\
        <svg viewBox="0 0 34 10" aria-hidden="true"><path class="\(contender.lineClass)" d="M1 5H33"/></svg>\
        <span class="name">\(escaped(contender.name))</span> \
        <span class="about">\(escaped(contender.about))</span></label>
        """
    }
    return "<div class=\"legend\">\(items.joined(separator: "\n"))</div>"
  }

  private var numbers: String {
    let columns = Self.columns
    // A heading such as "pages/second" can be broken, so that no column is wider than its numbers.
    let titles = columns.map { escaped($0.title).replacing("/", with: "/<wbr>") } + ["pinned"]
    let head = titles.map { "<th scope=\"col\">\($0)</th>" }.joined()
    let body = groups.map { group in
      "<tr class=\"group\"><th colspan=\"\(columns.count + 1)\">\(escaped(group.title))</th></tr>\n"
        + group.rows.map { row in
          let contender = row.contender
          let swatch =
            "<svg viewBox=\"0 0 20 10\" aria-hidden=\"true\">"
            + "<path class=\"\(contender.lineClass)\" d=\"M1 5H19\"/></svg>"
          let cells = columns.dropFirst().map { $0.cell(row) } + [contender.cpus.text]
          return "<tr><th scope=\"row\" title=\"\(escaped(contender.about))\">\(swatch)\(escaped(contender.name))</th>"
            + cells.map { "<td>\(escaped($0))</td>" }.joined() + "</tr>"
        }.joined(separator: "\n")
    }.joined(separator: "\n")
    return "<table><thead><tr>\(head)</tr></thead><tbody>\n\(body)\n</tbody></table>"
  }

  private var leftOutList: String {
    guard !leftOut.isEmpty else { return "" }
    let items = leftOut.map { "<li><span class=\"name\">\(escaped($0.name))</span>: \(escaped($0.reason))</li>" }
    return "<h3>Left out on this host</h3><ul class=\"notes\">\(items.joined())</ul>"
  }

  /// One rule for each contender, because a style sheet cannot select "the curve of a box that is not ticked".
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
  /// The class names that give a line its colour and its pattern.
  var lineClass: String { "line t-\(tone.rawValue) f-\(family.rawValue)" }
}

/// Returns `text` with the characters replaced that have a meaning in HTML.
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
