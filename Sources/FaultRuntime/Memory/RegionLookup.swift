/// Remembers the region of the latest fault, because the next fault is usually in the same region. This saves a
/// search and the atomic instructions of the search. Only one thread may use it.
struct RegionLookup<Member: TableMember>: ~Copyable {
  private let table: RegionTable<Member>
  private var region: Member?
  private var range = AddressRange(start: 0, byteCount: 0)
  private var generation = -1

  init(_ table: RegionTable<Member>) { self.table = table }

  @inline(__always)
  mutating func region(containing address: UInt) -> Member? {
    if generation == table.generation, range.contains(address) { return region }
    return search(for: address)
  }

  @inline(never)
  private mutating func search(for address: UInt) -> Member? {
    let generation = table.generation
    region = table.region(containing: address)
    range = region?.range ?? AddressRange(start: 0, byteCount: 0)
    self.generation = generation
    return region
  }

  /// Drops the reference to the region, so that the region can be freed.
  mutating func forget() {
    region = nil
    generation = -1
  }
}
