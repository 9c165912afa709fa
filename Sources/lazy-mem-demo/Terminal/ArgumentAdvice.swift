import ArgumentParser
import Glibc

/// Wrong usage that the parser does not find.
struct UsageFailure: Error {
  var message: String
}

/// Messages about arguments that are better than the parser's.
enum ArgumentAdvice {
  /// Throws an error if the first word is a command that was mistyped, which the parser would take for a file. Throws
  /// an error as well if an argument or the value of an option is empty, which none may be: a script has most likely
  /// left a variable empty.
  static func check(_ arguments: [String]) throws(UsageFailure) {
    if let advice = forCommand(arguments.first) { throw UsageFailure(message: advice) }
    for (index, argument) in arguments.enumerated() {
      if argument.hasPrefix("--"), argument.hasSuffix("="), argument.firstIndex(of: "=") == argument.lastIndex(of: "=")
      {
        throw UsageFailure(message: "the value of \(argument.dropLast()) is empty")
      }
      guard argument.isEmpty else { continue }
      let before = index > 0 ? arguments[index - 1] : ""
      throw UsageFailure(
        message: before.hasPrefix("--") && before != "--"
          ? "the value of \(before) is empty" : "the name of the file is empty: give a file to map")
    }
  }

  /// Returns what to say of a first word that is neither a command nor a file, and looks like a command that was
  /// mistyped. Returns nil for everything else.
  static func forCommand(_ word: String?) -> String? {
    guard let word, !word.isEmpty, !word.hasPrefix("-"), !word.contains("/"), !isCommand(word) else { return nil }
    guard FileName(argument: word).map({ exists($0) }) == false, let command = nearest(to: word) else { return nil }
    return "no such file or command: \(word); did you mean \(command)?"
  }

  /// Returns the parser's text with each argument that it quotes made visible, line breaks included.
  static func quoting(_ arguments: [String], in text: String) -> String {
    let values = arguments.compactMap { argument in
      argument.firstIndex(of: "=").map { String(argument[argument.index(after: $0)...]) }
    }
    return (arguments + values).reduce(text) { text, argument in
      let shown = VisibleText.line(argument)
      return shown == argument || argument.isEmpty ? text : text.replacing(argument, with: shown)
    }
  }

  private static let commands =
    LazyMemDemo.configuration.subcommands.compactMap { $0.configuration.commandName } + ["help"]

  static func isCommand(_ word: String) -> Bool { commands.contains(word) }

  private static func exists(_ name: FileName) -> Bool {
    var facts = stat()
    return unsafe name.withCString { unsafe lstat($0, &facts) } == 0
  }

  /// Returns the command that the word comes close to: with up to two letters that are wrong, missing, too many or
  /// swapped (one in a word as short as map), or with its end left out.
  private static func nearest(to word: String) -> String? {
    let word = word.lowercased()
    if word == "version" { return "--version" }
    let near = commands.map { (name: $0, distance: distance(Array(word), Array($0))) }
      .filter { $0.distance <= ($0.name.count > 3 ? 2 : 1) && $0.distance < word.count }
      .min { $0.distance < $1.distance }
    return near?.name ?? commands.first { word.count >= 3 && $0.hasPrefix(word) }
  }

  /// Returns how many letters have to be changed, added, removed or swapped with the next one.
  private static func distance(_ first: [Character], _ second: [Character]) -> Int {
    var rows = [Array(0...second.count)]
    for (row, letter) in first.enumerated() {
      var next = [row + 1]
      for (column, other) in second.enumerated() {
        var least = min(next[column] + 1, rows[row][column + 1] + 1, rows[row][column] + (letter == other ? 0 : 1))
        if row > 0, column > 0, letter == second[column - 1], other == first[row - 1] {
          least = min(least, rows[row - 1][column - 1] + 1)
        }
        next.append(least)
      }
      rows.append(next)
    }
    return rows[first.count][second.count]
  }
}
