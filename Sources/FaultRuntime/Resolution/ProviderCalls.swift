internal import Synchronization

/// The calls of a region's provider that threads of the pool are making. The pool decides by them which tasks of the
/// region may begin.
// Safe to share: the lock of the pool protects the variables, and all tasks of a region go to one pool.
final class ProviderCalls: @unchecked Sendable {
  /// The calls under way, without those that were given up.
  var underWay = 0
  /// How many of those have come to wait in a fault. They do not count against the share of the region, because the
  /// page that they wait for may belong to the same region.
  var waitingInFault = 0
  private let late = Atomic<Int>(0)

  /// The number of calls that were given up and have not returned. Faults read it without the lock.
  var givenUp: Int { late.load(ordering: .relaxed) }

  func noteGivenUp() { late.wrappingAdd(1, ordering: .relaxed) }
  func noteReturn() { late.wrappingSubtract(1, ordering: .relaxed) }
}
