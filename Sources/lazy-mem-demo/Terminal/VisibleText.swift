/// The one place that makes text safe for a terminal. Names of files and other texts that a user gives can contain
/// escape codes, line breaks, and characters that change the direction of a line. Every text that the command prints
/// passes through here.
enum VisibleText {
  /// Returns text as one line. What could move the cursor or hide something becomes `\xNN`, byte for byte, as the
  /// quotes `$'...'` of a shell take it.
  static func line(_ text: String) -> String { escaped(text, keepingLines: false, with: asBytes) }

  /// The same for text of several lines, whose line breaks stay.
  static func lines(_ text: String) -> String { escaped(text, keepingLines: true, with: asBytes) }

  /// The same for JSON, which stays JSON with the same content. Such characters are only inside its strings.
  static func json(_ text: String) -> String { escaped(text, keepingLines: true, with: asCodeUnits) }

  private static func escaped(_ text: String, keepingLines: Bool, with escape: (Unicode.Scalar) -> String) -> String {
    guard text.unicodeScalars.contains(where: { isDangerous($0) }) else { return text }
    var result = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      if isDangerous(scalar), !(keepingLines && scalar == "\n") {
        result.append(contentsOf: escape(scalar).unicodeScalars)
      } else {
        result.append(scalar)
      }
    }
    return String(result)
  }

  /// Whether a terminal would not show the scalar as a character of its own: control characters, DEL and C1, what
  /// changes the direction of text or has no width, line and paragraph separators, and bytes that are not UTF-8.
  private static func isDangerous(_ scalar: Unicode.Scalar) -> Bool {
    guard scalar.value >= 0x7f || scalar.value < 0x20 else { return false }
    if ArgumentBytes.byte(for: scalar) != nil { return true }
    return switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator: true
    default: false
    }
  }

  private static func asBytes(_ scalar: Unicode.Scalar) -> String {
    let bytes = ArgumentBytes.byte(for: scalar).map { [$0] } ?? Array(String(scalar).utf8)
    return bytes.map { "\\x" + hexadecimal(UInt32($0), digits: 2) }.joined()
  }

  private static func asCodeUnits(_ scalar: Unicode.Scalar) -> String {
    String(scalar).utf16.map { "\\u" + hexadecimal(UInt32($0), digits: 4) }.joined()
  }

  private static func hexadecimal(_ number: UInt32, digits: Int) -> String {
    let text = String(number, radix: 16)
    return String(repeating: "0", count: max(0, digits - text.count)) + text
  }
}
