internal import Synchronization

/// Counters with many writers: faulting threads that serve themselves, or the threads of the pool. Everything is
/// counted before the system call that makes it visible, as in `HandlerCounters`.
final class SharedCounters: FillCounter {
  /// The counts of the threads on some of the CPUs. Padding keeps the parts in different cache lines.
  private struct Part: ~Copyable, Sendable {
    let faults = Atomic<Int>(0)
    /// The requests beyond one for each fault; negative where faults made no request.
    let otherRequests = Atomic<Int>(0)
    let bytesFilled = Atomic<Int>(0)
    private let padding = InlineArray<13, Int>(repeating: 0)
  }

  private let parts = InlineArray<16, Part> { _ in Part() }
  private let pagesAlreadyPresent = Atomic<Int>(0)
  private let pagesFailed = Atomic<Int>(0)
  private let deferrals = Atomic<Int>(0)
  private let lateAnswers = Atomic<Int>(0)

  /// Counts a fault that makes one request. This takes one locked instruction instead of two.
  @_noLocks @_noAllocation
  @inline(__always)
  func countFault() { parts[Lane.current()].faults.wrappingAdd(1, ordering: .relaxed) }

  /// Counts requests without a fault. A negative count stands for faults without a request.
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

  /// The sums of all counters. Each fault counts as one batch, because each faulting thread handles its own fault
  /// only.
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
    // A thread may change its CPU between counting something and taking it back. If the sum has only the second of
    // the two, it is too low.
    sum.requests = max(0, sum.requests + sum.faults)
    sum.bytesFilled = max(0, sum.bytesFilled)
    sum.batches = sum.faults
    sum.largestBatch = min(sum.faults, 1)
    return sum
  }
}
