/// The entries of a table of regions at one moment, sorted by address. A snapshot never changes.
@unsafe
struct TableSnapshot {
  /// A region of a table.
  @unsafe
  struct Entry {
    let range: AddressRange
    let group: ObjectIdentifier
    /// The member, which the table retains.
    let member: UnsafeRawPointer
    /// One handle for each lane, or nil if the member has no handles.
    let handles: UnsafeMutablePointer<UnsafeRawPointer>?
  }

  let count: Int
  /// The entries lie right behind this structure in memory, because a reader reads them next.
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

  /// Returns the last entry that starts at or before `address`. O(log entries).
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

  /// Returns the entry in which `address` lies. O(log entries).
  @_noLocks @_noAllocation
  @inline(__always)
  func entry(containing address: UInt) -> UnsafeMutablePointer<Entry>? {
    guard let candidate = unsafe last(startingAtOrBefore: address), unsafe candidate.pointee.range.contains(address)
    else { return nil }
    return unsafe candidate
  }
}
