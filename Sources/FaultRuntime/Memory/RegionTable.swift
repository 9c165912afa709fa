internal import CUFFD
internal import Synchronization

/// What can be found in a table by its address.
protocol TableMember: AnyObject, Sendable {
  var range: AddressRange { get }
}

/// The ranges of an address space that are lazy, found by address in O(log regions) without a lock.
///
/// Readers search an immutable sorted snapshot. A writer publishes a new snapshot and frees the old one when no reader can be in
/// it any more: readers announce themselves in one of two counters for each lane, and the writer waits for both in turn, as
/// sleepable RCU does (McKenney, "Sleepable RCU", 2006). A reader never waits, so it may run in a signal handler.
@safe
// Safe to share: snapshots are immutable once they are published, and they are freed when nobody can see them any more.
class AddressTable: @unchecked Sendable {
  /// A member, which the table holds, and what ends with it.
  struct Entry: Sendable {
    let member: any TableMember
    /// Frees the handles.
    let cleanUp: @Sendable () -> Void
  }

  /// The readers on some of the CPUs.
  private struct Readers: ~Copyable, Sendable {
    // This lies in front, because what every reader reads lies in front of all readers.
    private let padding = InlineArray<14, Int>(repeating: 0)
    let even = Atomic<Int>(0)
    let odd = Atomic<Int>(0)

    /// The number of readers who came in a phase.
    func count(in phase: Int) -> Int {
      phase & 1 == 0 ? even.load(ordering: .sequentiallyConsistent) : odd.load(ordering: .sequentiallyConsistent)
    }
  }

  private final let current: Atomic<UnsafeMutablePointer<TableSnapshot>>
  private final let phase = Atomic<Int>(0)
  private final let changes = Atomic<Int>(0)
  private final let readers = InlineArray<16, Readers> { _ in Readers() }
  /// Sorted by address. It holds the members that the snapshot points to without counting them.
  private final let entries = Monitor<[Entry]>([])
  /// The process whose threads are counted as readers.
  private final let ownerProcess = Atomic(cuffd_process_id())

  fileprivate init() {
    unsafe current = Atomic(TableSnapshot.allocate(count: 0))
  }

  deinit {
    for entry in entries.withLock({ $0 }) { entry.cleanUp() }
    unsafe current.load(ordering: .acquiring).deallocate()
  }

  /// The number of open regions. Takes a lock.
  final var count: Int { entries.withLock { $0.count } }

  /// A number that goes up with each change. What was looked up after it was read stays true as long as it stands.
  @inline(__always)
  final var generation: Int { changes.load(ordering: .acquiring) }

  /// Whether any byte of `range` lies in an open region. Lock-free, O(log regions).
  @inline(__always)
  final func intersects(_ range: AddressRange) -> Bool {
    guard range.byteCount > 0 else { return false }
    return unsafe reading { snapshot in
      guard let candidate = unsafe snapshot.pointee.last(startingAtOrBefore: range.last) else { return false }
      return unsafe candidate.pointee.range.end > range.start
    }
  }

  /// The widest range around `range` in which no region has a byte; nil where one has. Lock-free, O(log regions).
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

  /// Where the first region behind `address` starts. Takes a lock.
  final func next(after address: UInt) -> UInt? {
    entries.withLock { entries in
      let index = Self.index(of: address &+ 1, in: entries)
      return index < entries.count ? entries[index].member.range.start : nil
    }
  }

  // MARK: For the typed table

  /// Runs `body` with a snapshot that stays until the body has returned.
  @inline(__always)
  fileprivate final func reading<Result>(_ body: (UnsafeMutablePointer<TableSnapshot>) -> Result) -> Result {
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

  fileprivate final func insert(_ entry: Entry, _ description: TableSnapshot.Entry) {
    entries.withLock { entries in
      let index = Self.index(of: entry.member.range.start, in: entries)
      entries.insert(entry, at: index)
      unsafe publish(snapshot(replacing: index..<index, by: description))
    }
  }

  fileprivate final func remove(memberAt range: AddressRange, _ isMeant: (any TableMember) -> Bool) {
    let removed = entries.withLock { entries -> Entry? in
      let index = Self.index(of: range.start, in: entries)
      guard index < entries.count, isMeant(entries[index].member) else { return nil }
      let removed = entries.remove(at: index)
      unsafe publish(snapshot(replacing: index..<(index + 1), by: nil))
      return removed
    }
    // No reader can be on its way to a handle of it any more.
    removed?.cleanUp()
  }

  /// A forked child has none of the threads that its parent had, and those of them that were reading never leave.
  private final func forgetParentsReaders() {
    let process = cuffd_process_id()
    guard ownerProcess.exchange(process, ordering: .relaxed) != process else { return }
    for lane in 0..<Lane.count {
      readers[lane].even.store(0, ordering: .sequentiallyConsistent)
      readers[lane].odd.store(0, ordering: .sequentiallyConsistent)
    }
  }

  private final func publish(_ snapshot: UnsafeMutablePointer<TableSnapshot>) {
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

  private static func index(of start: UInt, in entries: [Entry]) -> Int {
    var low = 0
    var high = entries.count
    while low < high {
      let middle = (low + high) / 2
      if entries[middle].member.range.start < start { low = middle + 1 } else { high = middle }
    }
    return low
  }

  /// A copy of the current snapshot in which one entry is added or missing. The lock is held.
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

/// The regions of an address space, found by address. See ``AddressTable``.
@safe
// Safe to share, as the table that it is.
final class RegionTable<Member: TableMember>: AddressTable, @unchecked Sendable {
  private let isForManyThreads: Bool

  /// - Parameter isForManyThreads: whether regions are looked up with ``enterHandle(containing:)`` as well.
  init(isForManyThreads: Bool = false) {
    self.isForManyThreads = isForManyThreads
    super.init()
  }

  /// The region in which `address` lies. Lock-free, O(log regions).
  @inline(__always)
  func region(containing address: UInt) -> Member? {
    unsafe reading { snapshot in
      guard let entry = unsafe snapshot.pointee.entry(containing: address) else { return nil }
      // It is counted before this reader leaves: after that the table may let go of it.
      return unsafe Unmanaged<Member>.fromOpaque(entry.pointee.member).retain().takeRetainedValue()
    }
  }

  /// Enters a handle of the region in which `address` lies, where few other threads are counted. The caller leaves it. Lock-free,
  /// O(log regions).
  @inline(__always)
  func enterHandle(containing address: UInt) -> Unmanaged<TableHandle<Member>>? {
    unsafe reading { snapshot in
      guard let entry = unsafe snapshot.pointee.entry(containing: address), let handles = unsafe entry.pointee.handles
      else { return nil }
      let handle = unsafe Unmanaged<TableHandle<Member>>.fromOpaque(handles[Lane.current()])
      unsafe handle._withUnsafeGuaranteedRef { $0.enter() }
      return unsafe handle
    }
  }

  /// Adds a region where none is: memory of one region is never mapped over another one's. O(regions); takes a lock.
  func insert(_ member: Member) {
    let handles = unsafe isForManyThreads ? Self.makeHandles(of: member) : nil
    // The address as a number, because the closure goes where pointers may not.
    let address = UInt(bitPattern: handles)
    unsafe insert(
      Entry(member: member, cleanUp: { Self.leaveHandles(at: address) }),
      TableSnapshot.Entry(
        range: member.range, member: Unmanaged.passUnretained(member).toOpaque(), handles: handles))
  }

  /// Removes a region, and returns when no reader is looking at it any more. O(regions); takes a lock.
  func remove(_ member: Member) { remove(memberAt: member.range) { $0 === member } }

  private static func makeHandles(of member: Member) -> UnsafeMutablePointer<UnsafeRawPointer> {
    let handles = UnsafeMutablePointer<UnsafeRawPointer>.allocate(capacity: Lane.count)
    for lane in 0..<Lane.count {
      unsafe (handles + lane).initialize(to: Unmanaged.passRetained(TableHandle(member)).toOpaque())
    }
    return unsafe handles
  }

  private static func leaveHandles(at address: UInt) {
    guard let handles = unsafe UnsafeMutablePointer<UnsafeRawPointer>(bitPattern: address) else { return }
    for lane in 0..<Lane.count { unsafe TableHandle<Member>.leave(.fromOpaque(handles[lane])) }
    unsafe handles.deallocate()
  }
}
