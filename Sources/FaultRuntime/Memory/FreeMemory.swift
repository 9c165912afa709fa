/// Remembers the gap between the regions that surrounds the memory which a provider lent last. Memory in this gap is
/// certain not to be lazy, so most checks need no search. Only one thread may use it, as with ``RegionLookup``.
struct FreeMemory: ~Copyable {
  private let group: RegionGroup
  private var range = AddressRange(start: 0, byteCount: 0)
  private var generation = -1

  init(_ group: RegionGroup) { self.group = group }

  /// Returns whether a byte of `other` lies in an open region of the group.
  @inline(__always)
  mutating func isLazy(_ other: AddressRange) -> Bool {
    if generation == group.table.generation, other.start >= range.start, other.end <= range.end { return false }
    return search(for: other)
  }

  @inline(never)
  private mutating func search(for other: AddressRange) -> Bool {
    let generation = group.table.generation
    guard let gap = group.table.gap(around: other) else { return group.intersects(other) }
    range = gap
    self.generation = generation
    return false
  }
}
