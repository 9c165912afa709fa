/// The size of a page, and arithmetic with it. The runtime asks the host for the size and never assumes one.
struct PageSize: Hashable, Sendable {
  /// The number of bytes in a page of this host: a power of two.
  let bytes: Int

  init(bytes: Int) {
    precondition(bytes > 0 && bytes & (bytes - 1) == 0, "a page size is a power of two")
    self.bytes = bytes
  }

  /// Returns the largest multiple of the page size that is not above `value`.
  @_noLocks @_noAllocation
  @inline(__always)
  func roundDown(_ value: Int) -> Int { value & ~(bytes &- 1) }

  /// Returns the smallest multiple of the page size that is not below `value`, or nil if an `Int` cannot hold it.
  func roundUp(_ value: Int) -> Int? {
    let (sum, overflow) = value.addingReportingOverflow(bytes - 1)
    return overflow ? nil : roundDown(sum)
  }

  /// Returns the start of the page that holds `address`.
  @_noLocks @_noAllocation
  @inline(__always)
  func pageStart(of address: UInt) -> UInt { address & ~UInt(bytes &- 1) }
}
