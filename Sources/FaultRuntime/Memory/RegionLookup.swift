/// The region of the latest fault, which is as a rule that of the next. Used by one thread; saves a search and its locked
/// instructions.
struct RegionLookup: ~Copyable {
  private var region: RegionCore?
  private var generation = -1

  @inline(__always)
  mutating func region(containing address: UInt, in table: RegionTable) -> RegionCore? {
    let generation = table.generation
    if generation == self.generation, let region, region.range.contains(address) { return region }
    region = table.region(containing: address)
    self.generation = generation
    return region
  }

  /// Lets go of the region, so that it can end.
  mutating func forget() { region = nil }
}

/// Memory around what was lent last that is certain not to be lazy. Used by one thread, as `RegionLookup` is.
struct FreeMemory: ~Copyable {
  private var range = AddressRange(start: 0, byteCount: 0)
  private var generation = -1

  /// Whether a byte of `other` lies in an open region.
  @inline(__always)
  mutating func isLazy(_ other: AddressRange, _ table: RegionTable) -> Bool {
    let generation = table.generation
    if generation == self.generation, other.start >= range.start, other.end <= range.end { return false }
    guard let gap = table.gap(around: other) else { return true }
    range = gap
    self.generation = generation
    return false
  }
}
