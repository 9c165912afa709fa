// What a reader should see first.

import FaultRuntime

extension BenchReport {
  /// What somebody gets who configures nothing; nil where it was left out.
  var chosen: Row? { rows.first { $0.contender.name == BenchContender.defaultChoice } }

  /// The fastest that fills memory with bytes of the program's own.
  var fastest: Row? {
    rows.filter { $0.contender.family != .kernel }.min { $0.nanosecondsPerPage < $1.nanosecondsPerPage }
  }

  /// The same with one page for each fault, as random accesses have it.
  var fastestSingle: Row? {
    rows.filter { $0.contender.group == .single }.min { $0.nanosecondsPerPage < $1.nanosecondsPerPage }
  }

  /// One line for each thing to remember: what it is about, and what to say.
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
