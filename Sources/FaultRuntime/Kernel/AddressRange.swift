/// A range of addresses of this process.
struct AddressRange: Hashable, Sendable {
  var start: UInt
  var byteCount: Int

  @_noLocks @_noAllocation
  @inline(__always)
  init(start: UInt, byteCount: Int) {
    self.start = start
    self.byteCount = byteCount
  }

  /// Nil where no memory can be there: numbers from outside need not make sense.
  init?(from start: UInt, byteCount: UInt) {
    let (_, overflow) = start.addingReportingOverflow(byteCount)
    guard byteCount > 0, byteCount <= UInt(Int.max), !overflow else { return nil }
    self.init(start: start, byteCount: Int(byteCount))
  }

  @inline(__always)
  var end: UInt { start &+ UInt(bitPattern: byteCount) }

  /// The last address of a range that is not empty. One that goes beyond the end of the address space ends there: what a
  /// provider lends may lie anywhere.
  @inline(__always)
  var last: UInt {
    let (sum, overflow) = start.addingReportingOverflow(UInt(bitPattern: byteCount) &- 1)
    return overflow ? .max : sum
  }

  @_noLocks @_noAllocation
  @inline(__always)
  func contains(_ address: UInt) -> Bool { address &- start < UInt(bitPattern: byteCount) }
}
