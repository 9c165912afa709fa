/// Holds a region for the threads on some of the CPUs. Where many threads use a region, each counts a reference to one of its
/// handles: a count that every fault writes to goes back and forth between the CPUs.
final class RegionHandle: Sendable {
  // The count lies in front of this, apart from that of the next handle.
  private let padding = InlineArray<14, Int>(repeating: 0)
  let region: RegionCore

  init(_ region: RegionCore) { self.region = region }
}

/// A region in a table, and its handles where the table is for many threads.
@safe
// Safe to share: nothing changes after `init`.
final class TableEntry: @unchecked Sendable {
  let region: RegionCore
  /// One for each lane, which this holds; nil where there are none.
  let handles: UnsafeMutablePointer<Unmanaged<RegionHandle>>?

  init(_ region: RegionCore, isForManyThreads: Bool) {
    self.region = region
    guard isForManyThreads else {
      unsafe handles = nil
      return
    }
    let handles = UnsafeMutablePointer<Unmanaged<RegionHandle>>.allocate(capacity: Lane.count)
    for lane in 0..<Lane.count {
      unsafe (handles + lane).initialize(to: .passRetained(RegionHandle(region)))
    }
    unsafe self.handles = unsafe handles
  }

  deinit {
    guard let handles = unsafe handles else { return }
    for lane in 0..<Lane.count { unsafe handles[lane].release() }
    unsafe handles.deallocate()
  }
}
