internal import CUFFD
internal import Synchronization

/// An object that a table finds by its address.
protocol TableMember: AnyObject, Sendable {
  var range: AddressRange { get }
  /// The group of the member, as ``RegionGroup`` describes it.
  var group: ObjectIdentifier { get }
}

/// The lazy ranges of one address space, which readers find by address in O(log regions) without a lock.
///
/// Readers search an immutable sorted snapshot. A writer publishes a new snapshot, and frees the old one when no
/// reader can be using it any more. For this, readers count themselves in one of two counters of their lane, and the
/// writer waits until both counters have been zero in turn, as in sleepable RCU (McKenney, "Sleepable RCU", 2006). A
/// reader never waits, so it may run in a signal handler.
@safe
// Safe to share: a published snapshot is immutable, and it is freed only when no reader can see it any more.
class AddressTable: @unchecked Sendable {
  /// A member, which the table retains, and the function that frees its handles.
  struct Entry: Sendable {
    let member: any TableMember
    /// Frees the handles of the member. It is called when the member is no longer in the table.
    let cleanUp: @Sendable () -> Void
  }

  /// The counters of the readers on some of the CPUs.
  private struct Readers: ~Copyable, Sendable {
    // The padding comes first, because the fields that every reader reads lie in front of the first counters.
    private let padding = InlineArray<14, Int>(repeating: 0)
    let even = Atomic<Int>(0)
    let odd = Atomic<Int>(0)

    /// Returns the number of readers that entered in `phase` or in another phase of the same parity.
    func count(in phase: Int) -> Int {
      phase & 1 == 0 ? even.load(ordering: .sequentiallyConsistent) : odd.load(ordering: .sequentiallyConsistent)
    }
  }

  private final let current: Atomic<UnsafeMutablePointer<TableSnapshot>>
  private final let phase = Atomic<Int>(0)
  private final let changes = Atomic<Int>(0)
  private final let readers = InlineArray<16, Readers> { _ in Readers() }
  /// Sorted by address. This array retains the members; the snapshot only points to them.
  private final let entries = Monitor<[Entry]>([])
  /// The process whose threads the counters of the readers count.
  private final let ownerProcess = Atomic(cuffd_address_space())

  /// Whether forked children keep the places of the members.
  private final let tellsForks = Atomic(false)

  init() {
    unsafe current = Atomic(TableSnapshot.allocate(count: 0))
  }

  deinit {
    for entry in entries.withLock({ $0 }) { entry.cleanUp() }
    unsafe current.load(ordering: .acquiring).deallocate()
  }

  /// The number of open regions. Takes a lock.
  final var count: Int { entries.withLock { $0.count } }

  /// A number that increases with each change of the table. What a caller looks up after reading the number stays
  /// valid as long as the number is the same.
  @inline(__always)
  final var generation: Int { changes.load(ordering: .acquiring) }

  /// Returns whether any byte of `range` lies in an open region. Lock-free, O(log regions).
  @inline(__always)
  final func intersects(_ range: AddressRange) -> Bool {
    guard range.byteCount > 0 else { return false }
    return unsafe reading { snapshot in
      guard let candidate = unsafe snapshot.pointee.last(startingAtOrBefore: range.last) else { return false }
      return unsafe candidate.pointee.range.end > range.start
    }
  }

  /// Returns whether any byte of `range` lies in an open region of `group`. Lock-free, O(log regions + regions in
  /// `range`).
  final func intersects(_ range: AddressRange, group: ObjectIdentifier) -> Bool {
    guard range.byteCount > 0 else { return false }
    return unsafe reading { snapshot in
      guard let last = unsafe snapshot.pointee.last(startingAtOrBefore: range.last) else { return false }
      let entries = unsafe snapshot.pointee.entries
      var index = unsafe last - entries
      while index >= 0, unsafe entries[index].range.end > range.start {
        if unsafe entries[index].group == group { return true }
        index -= 1
      }
      return false
    }
  }

  /// Returns the widest range around `range` in which no region has a byte, or nil if `range` itself has a byte of a
  /// region. Lock-free, O(log regions).
  final func gap(around range: AddressRange) -> AddressRange? {
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

  /// Returns the address of the first region that starts behind `address`, or nil if there is none. Takes a lock.
  final func next(after address: UInt) -> UInt? {
    entries.withLock { entries in
      let index = Self.index(of: address &+ 1, in: entries)
      return index < entries.count ? entries[index].member.range.start : nil
    }
  }

  // MARK: Fork

  /// Has forks wait for the lock of this table, and keeps the places of its regions in forked children. There is one
  /// such table.
  final func prepareForFork() {
    tellsForks.store(true, ordering: .relaxed)
    entries.prepareForFork()
  }

  // MARK: For the typed table

  /// Runs `body` with the current snapshot, which is not freed before `body` has returned.
  @inline(__always)
  final func reading<Result>(_ body: (UnsafeMutablePointer<TableSnapshot>) -> Result) -> Result {
    let lane = Lane.current()
    let isEven = phase.load(ordering: .relaxed) & 1 == 0
    // The order is sequentially consistent, so that either the writer sees this reader, or this reader sees the new
    // snapshot.
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

  /// Returns false, and adds nothing, where the range of the entry overlaps that of another one.
  final func insert(_ entry: Entry, _ description: TableSnapshot.Entry) -> Bool {
    entries.withLock { entries in
      let range = entry.member.range
      let index = Self.index(of: range.start, in: entries)
      // A forked child inserts too, and must not be the first to use a type. So this compares numbers, and no ranges.
      if index > 0 {
        let before = entries[index - 1].member.range
        if range.start &- before.start < UInt(before.byteCount) { return false }
      }
      if index < entries.count, entries[index].member.range.start &- range.start < UInt(range.byteCount) {
        return false
      }
      entries.insert(entry, at: index)
      unsafe publish(snapshot(replacing: index..<index, by: description))
      return true
    }
  }

  final func remove(memberAt range: AddressRange, _ isMeant: (any TableMember) -> Bool) {
    let removed = entries.withLock { entries -> Entry? in
      let index = Self.index(of: range.start, in: entries)
      guard index < entries.count, isMeant(entries[index].member) else { return nil }
      let removed = entries.remove(at: index)
      unsafe publish(snapshot(replacing: index..<(index + 1), by: nil))
      return removed
    }
    // Since `publish` has returned, no reader can be about to enter one of the handles.
    removed?.cleanUp()
  }

  /// Resets the counters on the first change in a forked child. The threads of the parent do not exist in the child,
  /// so threads that were reading during the fork would never count themselves out.
  private final func forgetParentsReaders() {
    let process = cuffd_address_space()
    guard ownerProcess.exchange(process, ordering: .relaxed) != process else { return }
    for lane in 0..<Lane.count {
      readers[lane].even.store(0, ordering: .sequentiallyConsistent)
      readers[lane].odd.store(0, ordering: .sequentiallyConsistent)
    }
  }

  private final func publish(_ snapshot: UnsafeMutablePointer<TableSnapshot>) {
    forgetParentsReaders()
    let old = unsafe current.exchange(snapshot, ordering: .sequentiallyConsistent)
    if tellsForks.load(ordering: .relaxed) {
      // Each entry begins with its range. The lock of the table keeps a fork from seeing the old snapshot.
      let described = unsafe snapshot.pointee
      unsafe cuffd_fork_keep(described.entries, described.count, MemoryLayout<TableSnapshot.Entry>.stride)
    }
    changes.wrappingAdd(1, ordering: .sequentiallyConsistent)
    // Both counters have to be waited for. New readers use the other counter than the one that the writer waits for,
    // so that a steady stream of readers cannot keep the writer waiting.
    for _ in 0..<2 {
      let left = phase.wrappingAdd(1, ordering: .sequentiallyConsistent).oldValue
      for lane in 0..<Lane.count {
        var backoff = Backoff()
        while readers[lane].count(in: left) != 0 { backoff.pause() }
      }
    }
    unsafe old.deallocate()
  }

  private static func index(of start: UInt, in entries: [Entry]) -> Int {
    var low = 0
    var high = entries.count
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].member.range.start < start { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// Returns a copy of the current snapshot in which one entry is added or missing. The caller holds the lock.
  private final func snapshot(
    replacing range: Range<Int>, by entry: TableSnapshot.Entry?
  ) -> UnsafeMutablePointer<TableSnapshot> {
    let old = unsafe current.load(ordering: .relaxed).pointee
    let added = unsafe entry == nil ? 0 : 1
    let count = unsafe old.count - range.count + added
    let snapshot = unsafe TableSnapshot.allocate(count: count)
    let entries = unsafe snapshot.pointee.entries
    unsafe entries.initialize(from: old.entries, count: range.lowerBound)
    if let entry = unsafe entry { unsafe (entries + range.lowerBound).initialize(to: entry) }
    unsafe (entries + range.lowerBound + added).initialize(
      from: old.entries + range.upperBound, count: old.count - range.upperBound)
    return unsafe snapshot
  }
}
