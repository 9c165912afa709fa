/// Where a region's memory is: all of its range, unless the program has unmapped or moved some of it.
struct RegionParts: Sendable {
  /// Not overlapping; without more of an order.
  private(set) var ranges: [AddressRange]
  /// Memory that was moved: where it is, and where it was.
  private(set) var moved: [(to: AddressRange, from: UInt)] = []

  init(_ range: AddressRange) { ranges = [range] }

  /// What of `range` is not the region's any more.
  mutating func remove(_ range: AddressRange) {
    ranges = ranges.flatMap { $0.without(range) }
    moved = moved.flatMap { move in
      move.to.without(range).map { (to: $0, from: move.from &+ ($0.start &- move.to.start)) }
    }
  }

  /// The memory at `from` is at `to` now. Only what was the region's still is: the kernel merges neighbours, and moves them at
  /// once.
  mutating func move(from: AddressRange, to: UInt) {
    let own = ranges.compactMap { $0.intersection(from) }
    // What was moved before may move on.
    let origins = own.map { origin(of: $0.start) ?? $0.start }
    remove(from)
    for (part, origin) in zip(own, origins) {
      let new = AddressRange(start: to &+ (part.start &- from.start), byteCount: part.byteCount)
      ranges.append(new)
      moved.append((new, origin))
    }
  }

  /// Whether all of `range` is the region's, and nothing of it was moved there from somewhere else.
  func contain(_ range: AddressRange) -> Bool {
    guard moved.allSatisfy({ $0.to.start == $0.from || $0.to.intersection(range) == nil }) else { return false }
    return ranges.reduce([range]) { rest, own in rest.flatMap { $0.without(own) } }.isEmpty
  }

  /// Where moved memory was at first; nil for memory that was not moved.
  func origin(of address: UInt) -> UInt? {
    moved.first { $0.to.contains(address) }.map { $0.from &+ (address &- $0.to.start) }
  }

  /// Where the memory is that was at `origin` at first; nil where the region has it no more.
  func place(of origin: UInt) -> UInt? {
    if let move = moved.first(where: { origin &- $0.from < UInt($0.to.byteCount) }) {
      return move.to.start &+ (origin &- move.from)
    }
    let isHere = ranges.contains { $0.contains(origin) } && self.origin(of: origin) == nil
    return isHere ? origin : nil
  }
}
