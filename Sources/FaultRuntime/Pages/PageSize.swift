/// Arithmetic with the size of a page, which is asked for once per runtime and never assumed.
struct PageSize: Hashable, Sendable {
  /// Bytes in a page of this host: a power of two.
  let bytes: Int

  init(bytes: Int) {
    precondition(bytes > 0 && bytes & (bytes - 1) == 0, "a page size is a power of two")
    self.bytes = bytes
  }

  /// The largest multiple of a page that is not above `value`.
  @_noLocks @_noAllocation
  @inline(__always)
  func roundDown(_ value: Int) -> Int { value & ~(bytes &- 1) }

  /// The smallest multiple of a page that is not below `value`; nil where that is not representable.
  func roundUp(_ value: Int) -> Int? {
    let (sum, overflow) = value.addingReportingOverflow(bytes - 1)
    return overflow ? nil : roundDown(sum)
  }

  /// The start of the page that holds `address`.
  @_noLocks @_noAllocation
  @inline(__always)
  func pageStart(of address: UInt) -> UInt { address & ~UInt(bytes &- 1) }
}
