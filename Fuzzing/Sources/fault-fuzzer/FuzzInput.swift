/// The bytes of one input, read from the front. Bytes after the end are zero, so that no input is too short.
struct FuzzInput {
  private let bytes: [UInt8]
  private var position = 0

  init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = unsafe Array(bytes) }

  var isEmpty: Bool { position >= bytes.count }

  mutating func byte() -> UInt8 {
    defer { position += 1 }
    return position < bytes.count ? bytes[position] : 0
  }

  mutating func bool() -> Bool { byte() & 1 != 0 }

  /// Returns the next `count` bytes, or fewer at the end.
  mutating func prefix(_ count: Int) -> [UInt8] {
    let end = min(position + count, bytes.count)
    defer { position = max(position, end) }
    return position < end ? Array(bytes[position..<end]) : []
  }

  /// Returns all remaining bytes.
  mutating func rest() -> [UInt8] { prefix(bytes.count) }

  /// Reads a number of any size, with the lowest byte first.
  mutating func number<Number: FixedWidthInteger>(_: Number.Type = Number.self) -> Number {
    var value: UInt64 = 0
    for index in 0..<UInt64(Number.bitWidth / 8) { value |= UInt64(byte()) << (8 * index) }
    return Number(truncatingIfNeeded: value)
  }

  /// Reads a number of any magnitude. Small numbers are as likely as large ones.
  mutating func magnitude() -> UInt64 { number(UInt64.self) >> UInt64(byte() & 63) }

  /// Reads a number below `limit`, which is at most 65536.
  mutating func below(_ limit: Int) -> Int {
    let value = limit <= 256 ? Int(byte()) : Int(number(UInt16.self))
    return value % limit
  }
}
