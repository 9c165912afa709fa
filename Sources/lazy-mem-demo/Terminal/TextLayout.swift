import Glibc

/// Text in lines that fit a terminal. Lines are broken between words only. A word that is longer than a line, such as
/// the name of a file, stays whole.
struct TextLayout {
  /// A blank at which no line is broken. It cannot be in a text that was made visible.
  static let glue: Character = "\u{1f}"

  var columns = Terminal.columns()

  /// Breaks a text into lines. The first line begins with `start`, and the others with blanks.
  func wrapped(_ text: String, start: String = "", indent: Int) -> [String] {
    var lines: [String] = []
    var line = start
    var isEmpty = true
    for word in text.split(separator: " ") {
      if !isEmpty, line.count + 1 + word.count > columns {
        lines.append(line)
        line = String(repeating: " ", count: indent)
        isEmpty = true
      }
      line += (isEmpty ? "" : " ") + word
      isEmpty = false
    }
    return (lines + [line]).map { line in
      let text = line.reversed().drop { $0 == " " || $0 == Self.glue }.reversed()
      return String(text.map { $0 == Self.glue ? " " : $0 })
    }
  }

  /// Returns a text that is not broken into lines.
  static func unbroken(_ text: String) -> String { String(text.map { $0 == " " ? glue : $0 }) }

  /// Returns a text in lines, of which all but the first are indented.
  func wrapped(_ text: String) -> String { wrapped(text, indent: 2).joined(separator: "\n") }

  /// Returns the parser's text for a descriptor. On a terminal, lines that the parser leaves long are broken. Other
  /// lines, such as those of a completion script, stay as they are.
  static func usage(_ text: String, for descriptor: CInt) -> String {
    isatty(descriptor) == 1 ? TextLayout(columns: Terminal.columns(of: descriptor)).wrappedUsage(text) : text
  }

  private func wrappedUsage(_ text: String) -> String {
    text.split(separator: "\n", omittingEmptySubsequences: false).map { line in
      let isLong = ["USAGE: ", "Usage: ", "Error: ", "Help: "].contains { line.hasPrefix($0) } && line.count > columns
      return isLong ? wrapped(String(line)) : String(line)
    }.joined(separator: "\n")
  }

  /// Returns a name and a text beside it, or below it where the name leaves too little room.
  func entry(_ name: String, _ text: String, indent: Int = 0, width: Int) -> [String] {
    let start = Self.padded(String(repeating: " ", count: indent) + name, width)
    guard columns - width < Self.leastRoom, !text.isEmpty else { return wrapped(text, start: start, indent: width) }
    let below = String(repeating: " ", count: indent + 2)
    return [String(repeating: " ", count: indent) + name] + wrapped(text, start: below, indent: indent + 2)
  }

  /// Returns names and texts in two columns.
  func list(_ rows: [(String, String)]) -> String {
    let width = (rows.map(\.0.count).max() ?? 0) + 2
    return rows.flatMap { entry($0.0, $0.1, width: width) }.joined(separator: "\n")
  }

  private static let leastRoom = 32

  static func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(1, width - text.count))
  }
}

extension TextLayout {
  /// A table whose first column has the names of its rows.
  struct Table {
    /// The cells of the lines at the top.
    var heads: [[String]]
    /// Rows that belong together, with a title.
    var groups: [(title: String, rows: [[String]])]
  }

  /// Returns a table with its numbers aligned on the right. Where it is too wide, it becomes several tables one below
  /// the other, which all have the first column.
  func table(_ table: Table) -> String {
    let cells = table.heads + table.groups.flatMap(\.rows)
    let widths = (cells.first ?? []).indices.map { column in cells.map { $0[column].count }.max() ?? 0 }
    return parts(widths).map { part(table, $0, widths) }.joined(separator: "\n\n")
  }

  /// Returns which columns are beside each other.
  private func parts(_ widths: [Int]) -> [[Int]] {
    var parts: [[Int]] = [[0]]
    var width = widths.first ?? 0
    for column in widths.indices.dropFirst() {
      if parts[parts.count - 1].count > 1, width + 2 + widths[column] > columns {
        parts.append([0])
        width = widths[0]
      }
      parts[parts.count - 1].append(column)
      width += 2 + widths[column]
    }
    return parts
  }

  private func part(_ table: Table, _ columns: [Int], _ widths: [Int]) -> String {
    func line(_ row: [String]) -> String {
      let text = columns.map { column in
        let padding = String(repeating: " ", count: widths[column] - row[column].count)
        return column == 0 ? row[column] + padding : padding + row[column]
      }.joined(separator: "  ")
      return String(text.reversed().drop { $0 == " " }.reversed())
    }
    let groups = table.groups.flatMap { ["", "-- \($0.title)"] + $0.rows.map(line) }
    return (table.heads.map(line) + groups).joined(separator: "\n")
  }
}
