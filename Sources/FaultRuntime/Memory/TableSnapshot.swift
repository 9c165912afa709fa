/// What a table of regions looked like at one moment: its entries, sorted by address. Nothing in it changes.
@unsafe
struct TableSnapshot {
  /// A region of a table.
  @unsafe
  struct Entry {
    let range: AddressRange
    /// The member, which the table holds.
    let member: UnsafeRawPointer
    /// One handle for each lane; nil where the table has no handles.
    let handles: UnsafeMutablePointer<UnsafeRawPointer>?
  }

  let count: Int
  /// The entries lie right behind this structure, which is where a reader looks next.
  let entries: UnsafeMutablePointer<Entry>

  static func allocate(count: Int) -> UnsafeMutablePointer<TableSnapshot> {
    let byteCount = unsafe MemoryLayout<TableSnapshot>.stride + count * MemoryLayout<Entry>.stride
    let memory = unsafe UnsafeMutableRawPointer.allocate(
      byteCount: byteCount, alignment: MemoryLayout<Entry>.alignment)
    let entries = unsafe (memory + MemoryLayout<TableSnapshot>.stride).bindMemory(to: Entry.self, capacity: count)
    let snapshot = unsafe memory.bindMemory(to: TableSnapshot.self, capacity: 1)
    unsafe snapshot.initialize(to: TableSnapshot(count: count, entries: entries))
    return unsafe snapshot
  }

  /// The last entry that starts at `address` or before it. O(log entries).
  @_noLocks @_noAllocation
  @inline(__always)
  func last(startingAtOrBefore address: UInt) -> UnsafeMutablePointer<Entry>? {
    var low = 0
    var high = unsafe count
    while low < high {
      let middle = (low &+ high) / 2
      if unsafe entries[middle].range.start <= address { low = middle &+ 1 } else { high = middle }
    }
    return low == 0 ? nil : unsafe entries + (low - 1)
  }

  /// The entry in which `address` lies.
  @_noLocks @_noAllocation
  @inline(__always)
  func entry(containing address: UInt) -> UnsafeMutablePointer<Entry>? {
    guard let candidate = unsafe last(startingAtOrBefore: address), unsafe candidate.pointee.range.contains(address)
    else { return nil }
    return unsafe candidate
  }
}
