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

  /// Returns nil if no memory can be at the range: it is empty, or it goes beyond the end of the address space. The
  /// numbers may come from the kernel or from a program, so they are checked.
  init?(from start: UInt, byteCount: UInt) {
    let (_, overflow) = start.addingReportingOverflow(byteCount)
    guard byteCount > 0, byteCount <= UInt(Int.max), !overflow else { return nil }
    self.init(start: start, byteCount: Int(byteCount))
  }

  @inline(__always)
  var end: UInt { start &+ UInt(bitPattern: byteCount) }

  /// The last address of a range that is not empty. A provider may lend memory at any address, so the sum is checked:
  /// a range that goes beyond the end of the address space ends there.
  @inline(__always)
  var last: UInt {
    let (sum, overflow) = start.addingReportingOverflow(UInt(bitPattern: byteCount) &- 1)
    return overflow ? .max : sum
  }

  @_noLocks @_noAllocation
  @inline(__always)
  func contains(_ address: UInt) -> Bool { address &- start < UInt(bitPattern: byteCount) }
}

extension AddressRange {
  /// Returns what is left of this range without `other`: at most two parts.
  func without(_ other: AddressRange) -> [AddressRange] {
    guard other.start < end, other.end > start else { return [self] }
    var rest: [AddressRange] = []
    if other.start > start { rest.append(AddressRange(start: start, byteCount: Int(other.start - start))) }
    if other.end < end { rest.append(AddressRange(start: other.end, byteCount: Int(end - other.end))) }
    return rest
  }

  /// Returns the part that both ranges have in common, or nil if there is none.
  func intersection(_ other: AddressRange) -> AddressRange? {
    let low = max(start, other.start)
    let high = min(end, other.end)
    return low < high ? AddressRange(start: low, byteCount: Int(high - low)) : nil
  }
}

extension AddressRange {
  @_noLocks @_noAllocation
  @inline(__always)
  func prefix(_ count: Int) -> AddressRange { AddressRange(start: start, byteCount: count) }

  @_noLocks @_noAllocation
  @inline(__always)
  func dropping(_ count: Int) -> AddressRange {
    AddressRange(start: start &+ UInt(bitPattern: count), byteCount: byteCount - count)
  }
}
