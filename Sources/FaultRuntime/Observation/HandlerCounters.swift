internal import Synchronization

/// The counters of one handler. Only the handler's serving thread writes them, so that counting takes a load and a
/// store, and no locked instruction.
///
/// Everything is counted before the system call that makes it visible, because `UFFDIO_COPY` wakes a thread that may
/// read the counters at once.
struct HandlerCounters: ~Copyable, Sendable {
  private let faults = Atomic<Int>(0)
  private let batches = Atomic<Int>(0)
  private let largestBatch = Atomic<Int>(0)
  private let requests = Atomic<Int>(0)
  private let bytesFilled = Atomic<Int>(0)
  private let pagesAlreadyPresent = Atomic<Int>(0)
  private let pagesFailed = Atomic<Int>(0)
  private let deferrals = Atomic<Int>(0)
  private let handovers = Atomic<Int>(0)

  @inline(__always)
  func countBatch(faults count: Int, messages: Int) {
    Self.add(count, to: faults)
    Self.add(1, to: batches)
    if messages > largestBatch.load(ordering: .relaxed) { largestBatch.store(messages, ordering: .relaxed) }
  }

  @inline(__always)
  func countRequest() { Self.add(1, to: requests) }

  /// The amount is negative where a resolution that was counted did not happen.
  @inline(__always)
  func countBytesFilled(_ amount: Int) { Self.add(amount, to: bytesFilled) }

  func countAlreadyPresent() { Self.add(1, to: pagesAlreadyPresent) }
  func countFailure() { Self.add(1, to: pagesFailed) }
  func countDeferral() { Self.add(1, to: deferrals) }
  func countHandover() { Self.add(1, to: handovers) }

  var statistics: FaultStatistics {
    FaultStatistics(
      faults: faults.load(ordering: .relaxed),
      batches: batches.load(ordering: .relaxed),
      largestBatch: largestBatch.load(ordering: .relaxed),
      requests: requests.load(ordering: .relaxed),
      bytesFilled: bytesFilled.load(ordering: .relaxed),
      pagesAlreadyPresent: pagesAlreadyPresent.load(ordering: .relaxed),
      pagesFailed: pagesFailed.load(ordering: .relaxed),
      deferrals: deferrals.load(ordering: .relaxed),
      handovers: handovers.load(ordering: .relaxed)
    )
  }

  @inline(__always)
  private static func add(_ amount: Int, to counter: borrowing Atomic<Int>) {
    counter.store(counter.load(ordering: .relaxed) &+ amount, ordering: .relaxed)
  }
}
