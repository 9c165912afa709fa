/// The ranges that a handler has asked for last. A thread that a signal interrupts in a fault faults again when it goes
/// on, and the kernel has the same fault twice if the handler had read the first one. The page may have come by then.
struct RecentRuns: ~Copyable {
  private static let count = 8
  private var ranges = [AddressRange](repeating: AddressRange(start: 0, byteCount: 0), count: count)
  private var next = 0

  @inline(__always)
  mutating func add(_ range: AddressRange) {
    ranges[next] = range
    next = (next + 1) % Self.count
  }

  @inline(__always)
  func contains(_ page: UInt) -> Bool {
    for index in 0..<Self.count where ranges[index].contains(page) { return true }
    return false
  }
}
