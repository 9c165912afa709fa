/// Records where the memory of a region is. This is the region's whole range, unless the program has unmapped or
/// moved a part of the memory.
struct RegionParts: Sendable {
  /// The ranges that belong to the region. They do not overlap, and they are in no particular order.
  private(set) var ranges: [AddressRange]
  /// The ranges of moved memory, each with the address at which the memory was mapped at first.
  private(set) var moved: [(to: AddressRange, from: UInt)] = []

  init(_ range: AddressRange) { ranges = [range] }

  /// Notes that nothing in `range` belongs to the region any more.
  mutating func remove(_ range: AddressRange) {
    ranges = ranges.flatMap { $0.without(range) }
    moved = moved.flatMap { move in
      move.to.without(range).map { (to: $0, from: move.from &+ ($0.start &- move.to.start)) }
    }
  }

  /// Notes that the memory at `from` was moved to `to`. The kernel merges neighbouring mappings and moves them
  /// together, so only the part of `to` belongs to the region that belonged to it at `from`. What is at `from` still
  /// belongs to it as well: the kernel reports by itself that it was unmapped there, and with `MREMAP_DONTUNMAP` the
  /// mapping stays, without its pages.
  mutating func move(from: AddressRange, to: UInt) {
    let own = ranges.compactMap { $0.intersection(from) }
    // Memory that was moved before can be moved again, and keeps its first address as its origin.
    let origins = own.map { origin(of: $0.start) ?? $0.start }
    for (part, origin) in zip(own, origins) {
      let new = AddressRange(start: to &+ (part.start &- from.start), byteCount: part.byteCount)
      ranges.append(new)
      // Memory that was moved back to its first address is where it belongs.
      if new.start != origin { moved.append((new, origin)) }
    }
  }

  /// Returns the first address of `range` that does not belong to the region, or where memory is that was moved there
  /// from another address; nil if there is none.
  func firstLost(of range: AddressRange) -> UInt? {
    let strange = moved.filter { $0.to.start != $0.from }.compactMap { $0.to.intersection(range) }
    let missing = ranges.reduce([range]) { rest, own in rest.flatMap { $0.without(own) } }
    return (strange + missing).lazy.map(\.start).min()
  }

  /// Returns the address at which moved memory was mapped at first, or nil for memory that was not moved.
  func origin(of address: UInt) -> UInt? {
    moved.first { $0.to.contains(address) }.map { $0.from &+ (address &- $0.to.start) }
  }

  /// Returns the present address of the memory that was mapped at `origin` at first, or nil if the region has lost it.
  func place(of origin: UInt) -> UInt? {
    if let move = moved.first(where: { origin &- $0.from < UInt($0.to.byteCount) }) {
      return move.to.start &+ (origin &- move.from)
    }
    let isHere = ranges.contains { $0.contains(origin) } && self.origin(of: origin) == nil
    return isHere ? origin : nil
  }
}
