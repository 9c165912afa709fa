import ArgumentParser

/// A number of bytes, as people write it: `4096`, `64k`, `1.5 GiB`.
struct ByteCount: ExpressibleByArgument, Equatable {
  var bytes: Int

  init(_ bytes: Int) { self.bytes = bytes }

  /// Reads a number with a unit. `k`, `M`, `G`, `T`, `P` and `E`, and the same with `iB`, are powers of 1024; with `B`
  /// alone they are powers of 1000. Small and large letters are the same. What is more than a number can hold becomes
  /// the largest number.
  init?(argument: String) {
    let number = argument.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let unit = argument.dropFirst(number.count).drop { $0 == " " }.lowercased()
    guard let factor = Self.factor(unit) else { return nil }
    if let whole = Int(number) {
      let (product, overflow) = whole.multipliedReportingOverflow(by: factor)
      bytes = overflow ? Int.max : product
    } else {
      guard let value = Double(number) else { return nil }
      bytes = Int(exactly: (value * Double(factor)).rounded()) ?? Int.max
    }
  }

  private static let letters = Array("kmgtpe")

  private static func factor(_ unit: String) -> Int? {
    guard let letter = unit.first, unit != "b" else { return 1 }
    guard let index = letters.firstIndex(of: letter), ["", "b", "ib"].contains(unit.dropFirst()) else { return nil }
    return (0...index).reduce(1) { product, _ in product * (unit.dropFirst() == "b" ? 1000 : 1024) }
  }

  /// The number with a unit and all its digits, such as `1.5 GiB (1,610,612,736 bytes)`.
  var text: String {
    let all = Self.grouped(bytes) + (bytes == 1 ? " byte" : " bytes")
    return bytes.magnitude < 1024 ? all : "\(short) (\(all))"
  }

  /// The number with the unit that makes it short, and at most one decimal.
  var short: String {
    var value = Double(bytes)
    var units = Self.letters[...]
    var unit = "bytes"
    // 1023.96 would be shown as 1024.0.
    while value.magnitude >= 1023.95, let letter = units.popFirst() {
      value /= 1024
      unit = letter.uppercased() + "iB"
    }
    let digits = unit == "bytes" || (value * 10).rounded().truncatingRemainder(dividingBy: 10) == 0 ? 0 : 1
    return "\(fixed(value, digits)) \(unit)"
  }

  private static func grouped(_ number: Int) -> String {
    let digits = Array("\(number.magnitude)")
    let text = digits.enumerated().map { index, digit in
      index > 0 && (digits.count - index).isMultiple(of: 3) ? ",\(digit)" : "\(digit)"
    }.joined()
    return (number < 0 ? "-" : "") + text
  }
}

/// Readers of numbers that the parser calls. A number that is out of range is said to be that, also if it is negative.
enum NumberArgument {
  static func whole<Number: FixedWidthInteger & Sendable>(
    _ range: ClosedRange<Number>
  ) -> @Sendable (String) throws -> Number {
    { text in
      if let number = Number(text), range.contains(number) { return number }
      let isWhole = !text.isEmpty && text.drop { $0 == "-" || $0 == "+" }.allSatisfy { $0.isASCII && $0.isNumber }
      throw ValidationError(
        (isWhole ? "it is out of range, which is" : "it is not a whole number")
          + " from \(range.lowerBound) to \(range.upperBound)")
    }
  }

  static func seconds(_ text: String) throws -> Double {
    guard let number = Double(text) else { throw ValidationError("it is not a number of seconds") }
    guard number > 0, number <= 1e6 else { throw ValidationError("it is out of range: more than 0, up to 1000000") }
    return number
  }

  static func bytes(_ text: String) throws -> ByteCount {
    guard let count = ByteCount(argument: text) else {
      throw ValidationError(
        text.hasPrefix("-") ? "it is out of range: a size is at least 1 byte" : "it is no size, such as 64k or 1.5GiB")
    }
    guard count.bytes > 0 else { throw ValidationError("it is out of range: a size is at least 1 byte") }
    return count
  }
}
