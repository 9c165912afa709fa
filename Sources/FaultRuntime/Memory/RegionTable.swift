internal import CUFFD
internal import Synchronization

/// All open regions of a runtime, found by address in O(log regions) without a lock.
///
/// Readers search an immutable sorted snapshot. A writer publishes a new one and frees the old one when no reader can be
/// in it any more: readers announce themselves in one of two counters (for each lane), and the writer waits for both in turn, as
/// sleepable RCU does (McKenney, "Sleepable RCU", 2006). A reader never waits, so it may run in a signal handler.
@safe
// Safe to share: snapshots are immutable once they are published, and freed when nobody can see them any more.
final class RegionTable: @unchecked Sendable {
  @unsafe
  private struct Entry {
    let range: AddressRange
    let region: Unmanaged<Region>
    let handles: UnsafeMutablePointer<Unmanaged<RegionHandle>>?
  }

  @unsafe
  private struct Snapshot {
    let count: Int
    /// Right behind this, which is where a reader looks next.
    let entries: UnsafeMutablePointer<Entry>

    static func allocate(count: Int) -> UnsafeMutablePointer<Snapshot> {
      let byteCount = unsafe MemoryLayout<Snapshot>.stride + count * MemoryLayout<Entry>.stride
      let memory = unsafe UnsafeMutableRawPointer.allocate(
        byteCount: byteCount, alignment: MemoryLayout<Entry>.alignment)
      let entries = unsafe (memory + MemoryLayout<Snapshot>.stride).bindMemory(to: Entry.self, capacity: count)
      let snapshot = unsafe memory.bindMemory(to: Snapshot.self, capacity: 1)
      unsafe snapshot.initialize(to: Snapshot(count: count, entries: entries))
      return unsafe snapshot
    }

    /// The last entry that starts at `address` or before it.
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
  }

  /// The readers on some of the CPUs.
  private struct Readers: ~Copyable, Sendable {
    // In front, because what every reader reads lies in front of all of them.
    private let padding = InlineArray<14, Int>(repeating: 0)
    let even = Atomic<Int>(0)
    let odd = Atomic<Int>(0)

    /// Those who came in a phase.
    func count(in phase: Int) -> Int {
      phase & 1 == 0 ? even.load(ordering: .sequentiallyConsistent) : odd.load(ordering: .sequentiallyConsistent)
    }
  }

  private let current: Atomic<UnsafeMutablePointer<Snapshot>>
  private let phase = Atomic<Int>(0)
  private let changes = Atomic<Int>(0)
  private let readers = InlineArray<16, Readers> { _ in Readers() }
  /// Sorted by address; holds the regions that the snapshot points to without counting them.
  private let regions = Guarded<[TableEntry]>([])
  private let isForManyThreads: Bool
  /// The process whose threads are counted as readers.
  private let ownerProcess = Atomic(cuffd_process_id())

  /// - Parameter isForManyThreads: whether regions are looked up with ``enterHandle(containing:)`` as well.
  init(isForManyThreads: Bool = false) {
    self.isForManyThreads = isForManyThreads
    unsafe current = Atomic(Snapshot.allocate(count: 0))
  }

  deinit {
    unsafe current.load(ordering: .acquiring).deallocate()
  }

  /// Number of open regions. Takes a lock.
  var count: Int { regions.withLock { $0.count } }

  /// Goes up with each change. What was looked up after it was read stays true as long as it stands.
  @inline(__always)
  var generation: Int { changes.load(ordering: .acquiring) }

  /// The region that `address` lies in. Lock-free, O(log regions).
  @inline(__always)
  func region(containing address: UInt) -> Region? {
    unsafe reading { snapshot in
      guard let candidate = unsafe snapshot.pointee.last(startingAtOrBefore: address),
        unsafe candidate.pointee.range.contains(address)
      else { return nil }
      // Counted before this reader leaves: after that the table may let go of it.
      return unsafe candidate.pointee.region.retain().takeRetainedValue()
    }
  }

  /// Enters a handle of the region that `address` lies in, where few other threads are counted; the caller leaves it. Lock-free,
  /// O(log regions).
  @inline(__always)
  func enterHandle(containing address: UInt) -> Unmanaged<RegionHandle>? {
    unsafe reading { snapshot in
      guard let candidate = unsafe snapshot.pointee.last(startingAtOrBefore: address),
        unsafe candidate.pointee.range.contains(address), let handles = unsafe candidate.pointee.handles
      else { return nil }
      let handle = unsafe handles[Lane.current()]
      unsafe handle._withUnsafeGuaranteedRef { $0.enter() }
      return unsafe handle
    }
  }

  /// Whether any byte of `range` lies in an open region. Lock-free, O(log regions).
  @inline(__always)
  func intersects(_ range: AddressRange) -> Bool {
    guard range.byteCount > 0 else { return false }
    return unsafe reading { snapshot in
      guard let candidate = unsafe snapshot.pointee.last(startingAtOrBefore: range.last) else { return false }
      return unsafe candidate.pointee.range.end > range.start
    }
  }

  /// The widest range around `range` that no region has a byte in; nil where one has. Lock-free, O(log regions).
  func gap(around range: AddressRange) -> AddressRange? {
    guard range.byteCount > 0 else { return range }
    return unsafe reading { snapshot in
      let before = unsafe snapshot.pointee.last(startingAtOrBefore: range.last)
      let start = unsafe before?.pointee.range.end ?? 0
      guard start <= range.start else { return nil }
      let end = unsafe snapshot.pointee
      let next = unsafe before.map { unsafe $0 + 1 } ?? end.entries
      let isLast = unsafe next == end.entries + end.count
      return AddressRange(
        start: start, byteCount: Int(bitPattern: (isLast ? .max : unsafe next.pointee.range.start) &- start) & .max)
    }
  }

  /// Where the first region behind `address` starts. Takes a lock.
  func next(after address: UInt) -> UInt? {
    regions.withLock { regions in
      let index = Self.index(of: address &+ 1, in: regions)
      return index < regions.count ? regions[index].region.range.start : nil
    }
  }

  /// Adds a region, where none is: ``Region`` is not mapped over another. O(regions); takes a lock.
  func insert(_ region: Region) {
    regions.withLock { regions in
      let index = Self.index(of: region.range.start, in: regions)
      let entry = TableEntry(region, isForManyThreads: isForManyThreads)
      regions.insert(entry, at: index)
      unsafe publish(snapshot(replacing: index..<index, by: entry))
    }
  }

  /// Removes a region, and returns when no reader is looking at it any more. O(regions); takes a lock.
  func remove(_ region: Region) {
    regions.withLock { regions in
      let index = Self.index(of: region.range.start, in: regions)
      guard index < regions.count, regions[index].region === region else { return }
      // Let go of only when no reader can be on its way to a handle of it.
      let removed = regions.remove(at: index)
      unsafe publish(snapshot(replacing: index..<(index + 1), by: nil))
      _ = consume removed
    }
  }

  @inline(__always)
  private func reading<Result>(_ body: (UnsafeMutablePointer<Snapshot>) -> Result) -> Result {
    let lane = Lane.current()
    let isEven = phase.load(ordering: .relaxed) & 1 == 0
    // Sequentially consistent: either the writer sees this reader, or this reader sees the writer's new snapshot.
    if isEven {
      readers[lane].even.wrappingAdd(1, ordering: .sequentiallyConsistent)
    } else {
      readers[lane].odd.wrappingAdd(1, ordering: .sequentiallyConsistent)
    }
    let result = unsafe body(current.load(ordering: .sequentiallyConsistent))
    if isEven {
      readers[lane].even.wrappingSubtract(1, ordering: .releasing)
    } else {
      readers[lane].odd.wrappingSubtract(1, ordering: .releasing)
    }
    return result
  }

  /// A forked child has none of the threads that its parent had, and those of them that were reading never leave.
  private func forgetParentsReaders() {
    let process = cuffd_process_id()
    guard ownerProcess.exchange(process, ordering: .relaxed) != process else { return }
    for lane in 0..<Lane.count {
      readers[lane].even.store(0, ordering: .sequentiallyConsistent)
      readers[lane].odd.store(0, ordering: .sequentiallyConsistent)
    }
  }

  private func publish(_ snapshot: UnsafeMutablePointer<Snapshot>) {
    forgetParentsReaders()
    let old = unsafe current.exchange(snapshot, ordering: .sequentiallyConsistent)
    changes.wrappingAdd(1, ordering: .sequentiallyConsistent)
    // Twice, so that a steady stream of readers in one counter cannot keep the writer waiting.
    for _ in 0..<2 {
      let left = phase.wrappingAdd(1, ordering: .sequentiallyConsistent).oldValue
      for lane in 0..<Lane.count {
        var backoff = Backoff()
        while readers[lane].count(in: left) != 0 { backoff.pause() }
      }
    }
    unsafe old.deallocate()
  }

  private static func index(of start: UInt, in regions: [TableEntry]) -> Int {
    var low = 0
    var high = regions.count
    while low < high {
      let middle = (low + high) / 2
      if regions[middle].region.range.start < start { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// A copy of the current snapshot in which one entry is added or missing. With the lock held.
  private func snapshot(replacing range: Range<Int>, by entry: TableEntry?) -> UnsafeMutablePointer<Snapshot> {
    let old = unsafe current.load(ordering: .relaxed).pointee
    let added = entry == nil ? 0 : 1
    let count = unsafe old.count - range.count + added
    let snapshot = unsafe Snapshot.allocate(count: count)
    let entries = unsafe snapshot.pointee.entries
    unsafe entries.initialize(from: old.entries, count: range.lowerBound)
    if let entry {
      unsafe (entries + range.lowerBound).initialize(
        to: Entry(range: entry.region.range, region: .passUnretained(entry.region), handles: entry.handles))
    }
    unsafe (entries + range.lowerBound + added).initialize(
      from: old.entries + range.upperBound, count: old.count - range.upperBound)
    return unsafe snapshot
  }
}
