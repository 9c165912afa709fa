internal import Synchronization

/// Keeps track of what the program does to the memory of the regions of one descriptor, and reports it to `onEvent`.
/// The thread that reads the events uses it, or the watchdog while that thread waits in a fault. Events are rare.
struct EventReporter: Sendable {
  private let onEvent: (@Sendable (RegionEvent) -> Void)?
  private let table: RegionTable<Region>
  /// The descriptor that reports the events. One call of the program can affect regions of several handlers, and the
  /// kernel then reports an event on the descriptor of each.
  private let userfaultfd: SharedUserfaultfd
  private let wanderers = Wanderers()

  init(table: RegionTable<Region>, userfaultfd: SharedUserfaultfd, onEvent: (@Sendable (RegionEvent) -> Void)?) {
    self.table = table
    self.userfaultfd = userfaultfd
    self.onEvent = onEvent
  }

  /// Follows a message. Returns the regions that have other memory than before.
  @discardableResult
  func handle(_ message: FaultMessage) -> [Region] {
    switch message {
    case .remove(let start, let end):
      guard let range = AddressRange(from: start, byteCount: end &- start) else { return [] }
      note(range) { .discarded(region: $0.name, range: $1) }
      return []
    case .unmap(let start, let end):
      guard let range = AddressRange(from: start, byteCount: end &- start) else { return [] }
      let changed = regions(of: range)
      for region in changed { region.memory.parts.withLock { $0.remove(range) } }
      note(range) { .unmapped(region: $0.name, range: $1) }
      return changed
    case .remap(let from, let to, let byteCount):
      guard let range = AddressRange(from: from, byteCount: UInt(byteCount)),
        AddressRange(from: to, byteCount: UInt(byteCount)) != nil
      else { return [] }
      note(range) { region, offsets in
        // The region may have only the end of what was moved.
        .moved(region: region.name, range: offsets, to: to &+ (region.address(of: offsets.lowerBound) &- from))
      }
      let changed = regions(of: range)
      for region in changed {
        region.memory.parts.withLock { $0.move(from: range, to: to) }
        wanderers.add(region)
      }
      return changed
    case .fork(let descriptor):
      // The reader of the event owns the descriptor of the child's memory. A child inherits no region, so there is
      // nothing to answer over that descriptor.
      ForkedDescriptor(owning: descriptor).close()
      return []
    case .pagefault, .unknown:
      return []
    }
  }

  /// Returns the region whose memory was moved to `address`, and the offset of the byte that is there now.
  func moved(to address: UInt) -> (region: Region, offset: Int)? {
    for region in wanderers.all {
      if let origin = region.memory.parts.withLock({ $0.origin(of: address) }) {
        return (region, region.offset(of: origin))
      }
    }
    return nil
  }

  /// Whether memory of any region was moved, so that ``moved(to:)`` has to be asked. Costs a load.
  @inline(__always)
  var hasMoves: Bool { wanderers.isAny }

  func forget(_ region: Region) { wanderers.remove(region) }

  func forgetAll() { wanderers.removeAll() }

  /// Returns the regions of this handler that have memory in a range. The kernel reports one mapping at a time, which
  /// may belong to several regions, because the kernel merges neighbouring mappings.
  private func regions(of range: AddressRange) -> [Region] {
    var found: [Region] = []
    var address = range.start
    while address < range.end {
      if let region = table.region(containing: address) {
        if isOwn(region) { found.append(region) }
        address = region.range.end
      } else {
        guard let next = table.next(after: address), next < range.end else { break }
        address = next
      }
    }
    // Memory that was moved may be anywhere, even in a hole of another region.
    for region in wanderers.all where !found.contains(where: { $0 === region }) {
      let isHere = region.memory.parts.withLock { $0.moved.contains { $0.to.intersection(range) != nil } }
      if isHere { found.append(region) }
    }
    return found
  }

  private func isOwn(_ region: Region) -> Bool {
    (region.memory as? AnonymousMemory)?.userfaultfd === userfaultfd
  }

  /// Reports an event for each region that has a part of `range`. `event` gets the region and the offsets of that part.
  private func note(_ range: AddressRange, _ event: (Region, Range<Int>) -> RegionEvent) {
    guard let onEvent else { return }
    for region in regions(of: range) {
      guard let part = region.range.intersection(range) else { continue }
      let offset = region.offset(of: part.start)
      onEvent(event(region, offset..<(offset + part.byteCount)))
    }
  }
}

/// The regions of which a part was moved.
private final class Wanderers: Sendable {
  private let regions = Monitor<[Region]>([])
  private let isNotEmpty = Atomic<Bool>(false)

  @inline(__always)
  var isAny: Bool { isNotEmpty.load(ordering: .relaxed) }

  var all: [Region] { isAny ? regions.withLock { $0 } : [] }

  func add(_ region: Region) {
    change { regions in
      if !regions.contains(where: { $0 === region }) { regions.append(region) }
    }
  }

  func remove(_ region: Region) { if isAny { change { $0.removeAll { $0 === region } } } }

  func removeAll() { change { $0 = [] } }

  private func change(_ body: (inout [Region]) -> Void) {
    regions.withLock { regions in
      body(&regions)
      isNotEmpty.store(!regions.isEmpty, ordering: .relaxed)
    }
  }
}
