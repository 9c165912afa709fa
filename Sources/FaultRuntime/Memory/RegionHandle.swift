internal import Synchronization

/// Holds a region for the threads on some of the CPUs. Where many threads use a region, each is counted in one of its handles: a
/// count that every fault writes to goes back and forth between the CPUs.
///
/// The count is its own and not that of the object, which the Swift runtime would keep: two calls into a library for each fault.
@safe
final class RegionHandle: Sendable {
  /// The table, and the threads that are in.
  private let users = Atomic<Int>(1)
  @unsafe private let held: Unmanaged<RegionCore>
  // Apart from the next one.
  private let padding = InlineArray<14, Int>(repeating: 0)

  init(_ region: RegionCore) { unsafe held = .passRetained(region) }

  deinit { unsafe held.release() }

  /// Of the region, which is there until `leave`, without counting.
  @inline(__always)
  var region: Unmanaged<RegionCore> { unsafe held }

  /// For who can be sure that the table still has it.
  @inline(__always)
  func enter() { users.wrappingAdd(1, ordering: .relaxed) }

  @inline(__always)
  static func leave(_ handle: Unmanaged<RegionHandle>) {
    let isLast = unsafe handle._withUnsafeGuaranteedRef {
      $0.users.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0
    }
    if isLast { unsafe handle.release() }
  }
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
    for lane in 0..<Lane.count { unsafe RegionHandle.leave(handles[lane]) }
    unsafe handles.deallocate()
  }
}
