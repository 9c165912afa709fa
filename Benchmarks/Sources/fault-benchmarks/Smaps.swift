import Glibc

/// The resident memory of this process, in bytes.
struct ResidentMemory: Codable {
  /// All resident memory.
  var resident = 0
  /// Memory that belongs to this process alone and was written, so that no other process can use it.
  var privateDirty = 0

  static func - (left: Self, right: Self) -> Self {
    Self(resident: left.resident - right.resident, privateDirty: left.privateDirty - right.privateDirty)
  }
}

/// Reads `/proc/self/smaps` without allocating, so that the measurement does not change its own result.
@safe
struct SmapsReader: ~Copyable {
  private let buffer: UnsafeMutableRawBufferPointer

  init() {
    unsafe buffer = .allocate(byteCount: 1 << 20, alignment: 16)
    // The buffer is resident from the start, so it does not appear in any difference.
    _ = unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
  }

  deinit {
    unsafe buffer.deallocate()
  }

  /// Returns the sum over all mappings that do not start in one of the `excluded` ranges.
  func memory(outside excluded: [Range<UInt>] = []) throws(BenchmarkError) -> ResidentMemory {
    let count = try read()
    let text = unsafe UnsafeRawBufferPointer(rebasing: buffer[..<count])
    var sum = ResidentMemory()
    var isCounted = true
    var line = unsafe Line(text, at: 0)
    while let start = line.start {
      if let address = unsafe line.mappingStart(in: text) {
        isCounted = !excluded.contains { $0.contains(address) }
      } else if isCounted {
        if let value = unsafe line.kibibytes(of: "Rss:", in: text) { sum.resident += value << 10 }
        if let value = unsafe line.kibibytes(of: "Private_Dirty:", in: text) { sum.privateDirty += value << 10 }
      }
      line = unsafe Line(text, at: start + line.count + 1)
    }
    return sum
  }

  private func read() throws(BenchmarkError) -> Int {
    let descriptor = unsafe open("/proc/self/smaps", O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw BenchmarkError("cannot open /proc/self/smaps") }
    defer { close(descriptor) }
    var count = 0
    while unsafe count < buffer.count {
      let result = unsafe Glibc.read(descriptor, buffer.baseAddress! + count, buffer.count - count)
      guard result >= 0 else { throw BenchmarkError("cannot read /proc/self/smaps") }
      if result == 0 { return count }
      count += result
    }
    throw BenchmarkError("/proc/self/smaps is longer than the buffer for it")
  }
}

/// One line of text in a buffer.
private struct Line {
  /// The offset of the line's first character; nil after the last line.
  var start: Int?
  var count = 0

  init(_ text: UnsafeRawBufferPointer, at start: Int) {
    guard start < text.count else { return }
    self.start = start
    while start + count < text.count, unsafe text[start + count] != UInt8(ascii: "\n") { count += 1 }
  }

  /// Returns the first address if this is the head line of a mapping.
  func mappingStart(in text: UnsafeRawBufferPointer) -> UInt? {
    guard let start else { return nil }
    var address: UInt = 0
    for index in start..<(start + count) {
      switch unsafe text[index] {
      case let byte where byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9"):
        address = address << 4 | UInt(byte - UInt8(ascii: "0"))
      case let byte where byte >= UInt8(ascii: "a") && byte <= UInt8(ascii: "f"):
        address = address << 4 | UInt(byte - UInt8(ascii: "a") + 10)
      case UInt8(ascii: "-"):
        return address
      default:
        return nil
      }
    }
    return nil
  }

  /// Returns the number in this line if the line begins with `name`.
  func kibibytes(of name: StaticString, in text: UnsafeRawBufferPointer) -> Int? {
    guard let start, count > name.utf8CodeUnitCount else { return nil }
    for index in 0..<name.utf8CodeUnitCount where unsafe text[start + index] != name.utf8Start[index] { return nil }
    var value = 0
    for index in (start + name.utf8CodeUnitCount)..<(start + count) {
      let byte = unsafe text[index]
      guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { continue }
      value = value * 10 + Int(byte - UInt8(ascii: "0"))
    }
    return value
  }
}
