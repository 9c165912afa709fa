import Synchronization

/// Counts the threads that are in a piece of code at the same time.
package final class Occupancy: Sendable {
  private let current = Atomic(0)
  private let highest = Atomic(0)

  package init() {}

  /// The largest number of threads so far.
  package var most: Int { highest.load(ordering: .relaxed) }

  package func enter() { highest.max(current.wrappingAdd(1, ordering: .relaxed).newValue, ordering: .relaxed) }
  package func leave() { current.wrappingSubtract(1, ordering: .relaxed) }
}
