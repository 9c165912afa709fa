// The results that a reader should see first.

import FaultRuntime

extension BenchReport {
  /// The contender without configuration; nil if it was left out.
  var chosen: Row? { rows.first { $0.contender.name == BenchContender.defaultChoice } }

  /// The fastest contender that fills memory with bytes of the program's own.
  var fastest: Row? {
    rows.filter { $0.contender.family != .kernel }.min { $0.nanosecondsPerPage < $1.nanosecondsPerPage }
  }

  /// The fastest contender with one page for each fault, which is what random accesses get.
  var fastestSingle: Row? {
    rows.filter { $0.contender.group == .single }.min { $0.nanosecondsPerPage < $1.nanosecondsPerPage }
  }

  /// One line for each result to remember: what the line is about, and its text.
  var takeAway: [(String, String)] {
    var lines: [(String, String)] = []
    if let chosen, let choice = chosen.choice {
      lines.append((BenchContender.defaultChoice, "took \(choice.delivery.rawValue): \(choice.reason)"))
      lines.append(("", Self.cost(chosen)))
    }
    if let fastest { lines.append(("fastest", "\(fastest.contender.name): " + Self.cost(fastest))) }
    if let fastestSingle, fastestSingle.contender.name != fastest?.contender.name {
      lines.append(("", "with a page a fault, \(fastestSingle.contender.name): " + Self.cost(fastestSingle)))
    }
    return lines
  }

  private static func cost(_ row: Row) -> String {
    let ratios = [(row.ratioToKernel, "x kernel"), (row.ratioToSigsegv, "x sigsegv")]
      .compactMap { ratio, name in ratio.map { shortRatio($0) + " " + name } }
    return ([shortMicroseconds(row.nanosecondsPerPage) + " us a page"] + ratios).joined(separator: ", ")
  }
}
