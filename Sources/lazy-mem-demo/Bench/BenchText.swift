// The report for a terminal.

extension BenchReport {
  /// What was done, in one line.
  var summary: String {
    "\(grouped(Double(pages))) pages touched once each (\(access.rawValue)) in \(order.rawValue) order by \(threads) "
      + "\(threads == 1 ? "thread" : "threads"), \(rounds) \(rounds == 1 ? "round" : "rounds") in shuffled order"
  }

  /// How to read the columns.
  var notes: [String] {
    var notes = [
      "p50 to p99.9 are of every touch of every round, as the touching thread sees it. Where a fault brings 16 pages, 15 of "
        + "16 touches find theirs there.",
      "ns/page is the wall time of a round divided by its pages, the median of the rounds; pages/s, x kernel and x sigsegv "
        + "follow from it. spread is the distance of the rounds' quartiles.",
      "x kernel compares with kanon, x sigsegv with c-sigsegv. Every byte was checked in every round.",
    ]
    if threads > 1 {
      notes.append(
        "c-sigsegv is right here only because no two threads touch the same page: mprotect opens a page before its bytes "
          + "are there. A version that is right with threads is slower.")
    }
    return notes
  }

  /// The columns of the table, and of that on the page.
  static let header = [
    "contender", "pages", "p50 us", "p90 us", "p99 us", "p99.9 us", "ns/page", "pages/s", "x kernel", "x sigsegv",
    "spread", "pinned",
  ]

  static func cells(_ row: Row) -> [String] {
    var cells = [row.contender.name, "\(row.contender.pagesPerFault)"]
    for percentile in [row.p50, row.p90, row.p99, row.p999] { cells.append(fixed(Double(percentile) / 1000, 2)) }
    cells += [grouped(row.nanosecondsPerPage), grouped(row.pagesPerSecond)]
    for ratio in [row.ratioToKernel, row.ratioToSigsegv] { cells.append(ratio.map { fixed($0, 2) } ?? "-") }
    return cells + [fixed(row.spread * 100, 0) + " %", row.contender.placement.text]
  }

  func text() -> String {
    var parts = [
      Self.columns(machine.rows.map { [$0.0, $0.1] }, leftAligned: [0, 1]),
      summary,
      Self.columns([Self.header] + rows.map(Self.cells), leftAligned: [0, Self.header.count - 1]),
      Self.columns(rows.map { [$0.contender.name, $0.contender.about] }, leftAligned: [0, 1]),
    ]
    if !leftOut.isEmpty { parts.append(leftOut.map { "left out: \($0.name): \($0.reason)" }.joined(separator: "\n")) }
    parts.append(notes.joined(separator: "\n"))
    parts.append(
      warnings.isEmpty ? "the machine looks quiet" : warnings.map { "WARNING: \($0)" }.joined(separator: "\n"))
    return parts.joined(separator: "\n\n")
  }

  private static func columns(_ rows: [[String]], leftAligned: Set<Int>) -> String {
    let widths = (0..<(rows.map(\.count).max() ?? 0)).map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      let line = row.enumerated().map { column, cell in
        let padding = String(repeating: " ", count: widths[column] - cell.count)
        return leftAligned.contains(column) ? cell + padding : padding + cell
      }.joined(separator: "  ")
      return String(line.reversed().drop { $0 == " " }.reversed())
    }.joined(separator: "\n")
  }
}
