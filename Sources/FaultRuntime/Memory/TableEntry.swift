/// A region in a table, and its handles where the table is for many threads.
@safe
// Safe to share: nothing changes after `init`.
final class TableEntry: @unchecked Sendable {
  let region: Region
  /// One for each lane, which this holds; nil where there are none.
  let handles: UnsafeMutablePointer<Unmanaged<RegionHandle>>?

  init(_ region: Region, isForManyThreads: Bool) {
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
    for lane in 0..<Lane.count { unsafe RegionHandle.leave(handles[lane]) }
    unsafe handles.deallocate()
  }
}
