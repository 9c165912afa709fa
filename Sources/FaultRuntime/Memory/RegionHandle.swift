internal import Synchronization

/// Holds a region for the threads on some of the CPUs. Where many threads use a region, each is counted in one of its handles: a
/// count that every fault writes to goes back and forth between the CPUs.
///
/// The count is its own and not that of the object, which the Swift runtime would keep: two calls into a library for each fault.
@safe
final class RegionHandle: Sendable {
  /// The table, and the threads that are in.
  private let users = Atomic<Int>(1)
  @unsafe private let held: Unmanaged<Region>
  // Apart from the next one.
  private let padding = InlineArray<14, Int>(repeating: 0)

  init(_ region: Region) { unsafe held = .passRetained(region) }

  deinit { unsafe held.release() }

  /// Of the region, which is there until `leave`, without counting.
  @inline(__always)
  var region: Unmanaged<Region> { unsafe held }

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
