/// The regions of a table whose faults may have to wait for the same threads. A copy from memory of a region, made by a
/// thread that serves another region of the group, could wait for itself.
struct RegionGroup: Sendable {
  let table: AddressTable
  let id: ObjectIdentifier

  /// Returns whether any byte of `range` lies in an open region of the group. Lock-free, O(log regions + regions in
  /// `range`).
  func intersects(_ range: AddressRange) -> Bool { table.intersects(range, group: id) }
}
