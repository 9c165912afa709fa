/// What a runtime has done since it was made.
///
/// ```swift
/// let before = runtime.statistics
/// try region.prefetch(0..<region.byteCount)
/// print(runtime.statistics.bytesFilled - before.bytesFilled)
/// ```
///
/// ``FaultRuntime/statistics`` reads the counters without stopping the threads that count. A fault that is being
/// served at that moment may be in some of the numbers and not yet in others.
public struct FaultStatistics: Hashable, Sendable {
  /// The number of page faults that the kernel reported. Where several threads wait for one page, each of them
  /// counts.
  public var faults = 0

  /// The number of reads of a userfaultfd that brought at least one message. With `sigbus` and `sigsegv` there are no
  /// such reads, and each fault counts as one.
  public var batches = 0

  /// The largest number of messages that one read brought.
  public var largestBatch = 0

  /// The number of requests to providers. A prefetch counts one request for each of its steps. Such a step may ask
  /// the provider several times, or not at all.
  public var requests = 0

  /// The number of bytes put into regions, zero pages included.
  public var bytesFilled = 0

  /// The number of pages that were found present when they were about to be filled.
  public var pagesAlreadyPresent = 0

  /// The number of pages that a fault needed and that could not be produced. A page that fails again counts again.
  public var pagesFailed = 0

  /// The number of resolutions that were put off because the kernel wanted something else to be read first
  /// (`EAGAIN`).
  public var deferrals = 0

  /// The number of answers that came after their region's timeout and were dropped.
  public var lateAnswers = 0

  /// The number of times that the work of a handler passed from one of its two threads to the other, to follow a
  /// faulting thread or to stop following it (``HandlerPlacement``).
  public var handovers = 0
}

extension FaultStatistics {
  mutating func add(_ other: FaultStatistics) {
    faults += other.faults
    batches += other.batches
    largestBatch = max(largestBatch, other.largestBatch)
    requests += other.requests
    bytesFilled += other.bytesFilled
    pagesAlreadyPresent += other.pagesAlreadyPresent
    pagesFailed += other.pagesFailed
    deferrals += other.deferrals
    lateAnswers += other.lateAnswers
    handovers += other.handovers
  }
}
