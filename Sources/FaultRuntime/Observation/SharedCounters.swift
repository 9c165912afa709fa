internal import Synchronization

/// The counters of the delivery in which every faulting thread serves itself: many writers. Counted before the request that
/// makes it visible, as in `HandlerCounters`.
final class SharedCounters: FillCounter {
  /// What the threads on some of the CPUs have done.
  private struct Part: ~Copyable, Sendable {
    let faults = Atomic<Int>(0)
    /// Beyond one for each fault; negative where faults made none.
    let otherRequests = Atomic<Int>(0)
    let bytesFilled = Atomic<Int>(0)
    private let padding = InlineArray<13, Int>(repeating: 0)
  }

  private let parts = InlineArray<16, Part> { _ in Part() }
  private let pagesAlreadyPresent = Atomic<Int>(0)
  private let pagesFailed = Atomic<Int>(0)
  private let deferrals = Atomic<Int>(0)
  private let lateAnswers = Atomic<Int>(0)

  /// A fault that makes one request: one locked instruction instead of two.
  @_noLocks @_noAllocation
  @inline(__always)
  func countFault() { parts[Lane.current()].faults.wrappingAdd(1, ordering: .relaxed) }

  /// Requests without a fault; negative for faults without a request.
  @_noLocks @_noAllocation
  @inline(__always)
  func countRequests(_ count: Int = 1) {
    parts[Lane.current()].otherRequests.wrappingAdd(count, ordering: .relaxed)
  }

  @_noLocks @_noAllocation
  @inline(__always)
  func countBytesFilled(_ amount: Int) { parts[Lane.current()].bytesFilled.wrappingAdd(amount, ordering: .relaxed) }

  @_noLocks @_noAllocation
  func countAlreadyPresent() { pagesAlreadyPresent.wrappingAdd(1, ordering: .relaxed) }
  @_noLocks @_noAllocation
  func countFailure() { pagesFailed.wrappingAdd(1, ordering: .relaxed) }
  @_noLocks @_noAllocation
  func countDeferral() { deferrals.wrappingAdd(1, ordering: .relaxed) }

  func countLateAnswer() { lateAnswers.wrappingAdd(1, ordering: .relaxed) }

  /// Each fault is a batch of its own: its thread meets it alone.
  var statistics: FaultStatistics {
    var sum = FaultStatistics(
      pagesAlreadyPresent: pagesAlreadyPresent.load(ordering: .relaxed),
      pagesFailed: pagesFailed.load(ordering: .relaxed),
      deferrals: deferrals.load(ordering: .relaxed),
      lateAnswers: lateAnswers.load(ordering: .relaxed)
    )
    for lane in 0..<Lane.count {
      sum.faults += parts[lane].faults.load(ordering: .relaxed)
      sum.requests += parts[lane].otherRequests.load(ordering: .relaxed)
      sum.bytesFilled += parts[lane].bytesFilled.load(ordering: .relaxed)
    }
    // A thread that changed its CPU between adding and taking back may have been seen with one of the two.
    sum.requests = max(0, sum.requests + sum.faults)
    sum.bytesFilled = max(0, sum.bytesFilled)
    sum.batches = sum.faults
    sum.largestBatch = min(sum.faults, 1)
    return sum
  }
}
