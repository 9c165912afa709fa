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

  @inline(__always)
  var end: UInt { start &+ UInt(bitPattern: byteCount) }

  @_noLocks @_noAllocation
  @inline(__always)
  func contains(_ address: UInt) -> Bool { address &- start < UInt(bitPattern: byteCount) }
}
