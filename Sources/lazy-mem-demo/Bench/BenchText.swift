// The report as text for a terminal.

extension BenchReport {
  /// What was measured, in one line.
  var summary: String {
    """
    \(grouped(Double(pages))) \(pages == 1 ? "page" : "pages") touched once each (\(access.rawValue)) \
    in \(order.rawValue) order by \(threads) \(threads == 1 ? "thread" : "threads"), \
    \(rounds) \(rounds == 1 ? "round" : "rounds") in shuffled order
    """
  }

  /// Explanations of the columns.
  var notes: [String] {
    var notes = [
      """
      pages/fault is what a contender promises. Where requests grow it was measured: pages divided by faults, a thread \
      that finds a page already filled ahead of it having none.
      """,
      """
      p50 to p99.9 are of every touch of every round, as the touching thread sees it. Where a fault brings 16 pages, \
      15 of 16 touches find theirs there.
      """,
      """
      us/page is the wall time of a round divided by its pages, the median of the rounds; pages/second, x kernel and \
      x sigsegv follow from it. spread, or +-%, is the distance of the rounds' quartiles.
      """,
      "x kernel compares with kanon, x sigsegv with c-sigsegv. Every byte was checked in every round.",
    ]
    if threads > 1 {
      notes.append(
        """
        c-sigsegv is right here only because no two threads touch the same page: mprotect opens a page before its \
        bytes are there. A version that is right with threads is slower.
        """)
    }
    return notes
  }

  /// A column of the table, in the terminal and on the page.
  struct Column: Sendable {
    /// The heading in two lines, so that the table fits a terminal of 100 columns.
    var head: (String, String)
    /// The heading on the page, in one line.
    var title: String
    var cell: @Sendable (Row) -> String
  }

  static let columns: [Column] = [
    Column(head: ("", "contender"), title: "contender") { $0.contender.name },
    Column(head: ("pages/", "fault"), title: "pages/fault") { $0.pagesText },
    Column(head: ("us", "p50"), title: "p50 us") { shortMicroseconds(Double($0.p50)) },
    Column(head: ("us", "p90"), title: "p90 us") { shortMicroseconds(Double($0.p90)) },
    Column(head: ("us", "p99"), title: "p99 us") { shortMicroseconds(Double($0.p99)) },
    Column(head: ("us", "p99.9"), title: "p99.9 us") { shortMicroseconds(Double($0.p999)) },
    Column(head: ("us/", "page"), title: "us/page") { shortMicroseconds($0.nanosecondsPerPage) },
    Column(head: ("pages/", "second"), title: "pages/second") { thousands($0.pagesPerSecond) },
    Column(head: ("x", "kernel"), title: "x kernel") { $0.ratioToKernel.map(shortRatio) ?? "-" },
    Column(head: ("x", "sigsegv"), title: "x sigsegv") { $0.ratioToSigsegv.map(shortRatio) ?? "-" },
    Column(head: ("", "+-%"), title: "spread %") { fixed($0.spread * 100, 0) },
  ]

  /// Returns the machine first, then the meaning of the names and the table, and what to remember last, beside the
  /// prompt.
  func text(_ layout: TextLayout = TextLayout()) -> String {
    var parts = [
      layout.list(machine.rows),
      layout.list(groups.flatMap(\.rows).map { ($0.contender.name, $0.contender.about) }),
      notes.map { layout.wrapped($0) }.joined(separator: "\n"),
      layout.table(table),
    ]
    if !leftOut.isEmpty {
      parts.append(leftOut.map { layout.wrapped("left out: \($0.name): \($0.reason)") }.joined(separator: "\n"))
    }
    parts.append(layout.wrapped(summary))
    parts.append(layout.list(takeAway))
    parts.append(
      warnings.isEmpty
        ? "the machine looks quiet" : warnings.map { layout.wrapped("WARNING: \($0)") }.joined(separator: "\n"))
    return parts.joined(separator: "\n\n")
  }

  private var table: TextLayout.Table {
    TextLayout.Table(
      heads: [Self.columns.map(\.head.0), Self.columns.map(\.head.1)],
      groups: groups.map { group in (group.title, group.rows.map { row in Self.columns.map { $0.cell(row) } }) })
  }
}

extension BenchReport.Row {
  /// The number of pages for each fault, with a decimal only if it was measured and is below 100.
  var pagesText: String { fixed(pagesPerFault, contender.requests == .growing && pagesPerFault < 100 ? 1 : 0) }
}

/// Returns microseconds with at least three digits.
func shortMicroseconds(_ nanoseconds: Double) -> String {
  fixed(nanoseconds / 1000, nanoseconds < 99_995 ? 2 : nanoseconds < 999_950 ? 1 : 0)
}

/// Returns a ratio with at least three digits, however large the ratio is.
func shortRatio(_ ratio: Double) -> String { fixed(ratio, ratio < 9.995 ? 2 : ratio < 99.95 ? 1 : 0) }

/// Returns thousands, such as `13.8k`, with one decimal below a hundred thousand.
private func thousands(_ value: Double) -> String { fixed(value / 1000, value < 99_950 ? 1 : 0) + "k" }
