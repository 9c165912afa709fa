/// The region of the latest fault, which is as a rule that of the next. Used by one thread; saves a search and its locked
/// instructions.
struct RegionLookup: ~Copyable {
  private let table: RegionTable
  private var region: Region?
  private var range = AddressRange(start: 0, byteCount: 0)
  private var generation = -1

  init(_ table: RegionTable) { self.table = table }

  @inline(__always)
  mutating func region(containing address: UInt) -> Region? {
    if generation == table.generation, range.contains(address) { return region }
    return search(for: address)
  }

  @inline(never)
  private mutating func search(for address: UInt) -> Region? {
    let generation = table.generation
    region = table.region(containing: address)
    range = region?.range ?? AddressRange(start: 0, byteCount: 0)
    self.generation = generation
    return region
  }

  /// Lets go of the region, so that it can end.
  mutating func forget() {
    region = nil
    generation = -1
  }
}
