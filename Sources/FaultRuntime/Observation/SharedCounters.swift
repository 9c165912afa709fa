internal import Synchronization

/// The counters of the delivery in which every faulting thread serves itself: many writers. Counted before the request that
/// makes it visible, as in `HandlerCounters`.
final class SharedCounters: Sendable {
  private let faults = Atomic<Int>(0)
  private let requests = Atomic<Int>(0)
  private let bytesFilled = Atomic<Int>(0)
  private let pagesAlreadyPresent = Atomic<Int>(0)
  private let pagesFailed = Atomic<Int>(0)
  private let deferrals = Atomic<Int>(0)

  @_noLocks @_noAllocation
  @inline(__always)
  func countFault() { faults.wrappingAdd(1, ordering: .relaxed) }

  @_noLocks @_noAllocation
  @inline(__always)
  func countRequest() { requests.wrappingAdd(1, ordering: .relaxed) }

  /// `amount` is negative where a resolution that was counted did not happen.
  @_noLocks @_noAllocation
  @inline(__always)
  func countBytesFilled(_ amount: Int) { bytesFilled.wrappingAdd(amount, ordering: .relaxed) }

  @_noLocks @_noAllocation
  func countAlreadyPresent() { pagesAlreadyPresent.wrappingAdd(1, ordering: .relaxed) }
  @_noLocks @_noAllocation
  func countFailure() { pagesFailed.wrappingAdd(1, ordering: .relaxed) }
  @_noLocks @_noAllocation
  func countDeferral() { deferrals.wrappingAdd(1, ordering: .relaxed) }

  /// Each fault is a batch of its own: its thread meets it alone.
  var statistics: FaultStatistics {
    let faults = faults.load(ordering: .relaxed)
    return FaultStatistics(
      faults: faults,
      batches: faults,
      largestBatch: min(faults, 1),
      requests: requests.load(ordering: .relaxed),
      bytesFilled: bytesFilled.load(ordering: .relaxed),
      pagesAlreadyPresent: pagesAlreadyPresent.load(ordering: .relaxed),
      pagesFailed: pagesFailed.load(ordering: .relaxed),
      deferrals: deferrals.load(ordering: .relaxed)
    )
  }
}
