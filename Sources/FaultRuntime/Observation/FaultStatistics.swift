/// What a runtime has done since it was made. Reading it takes no lock and stops nobody, so the numbers of faults that are
/// being served at that moment may be a step apart.
public struct FaultStatistics: Hashable, Sendable {
  /// Page faults that the kernel reported. Threads that wait for one page count one each.
  public var faults = 0

  /// Reads of the descriptor that brought at least one message. With `sigbus` nothing is read, and each fault counts as one.
  public var batches = 0

  /// The most messages that one read brought.
  public var largestBatch = 0

  /// Requests to providers.
  public var requests = 0

  /// Bytes put into regions, pages of zeros included.
  public var bytesFilled = 0

  /// Pages that were found present when they were about to be filled.
  public var pagesAlreadyPresent = 0

  /// Pages that could not be produced.
  public var pagesFailed = 0

  /// Resolutions put off because the kernel wanted something else read first (`EAGAIN`).
  public var deferrals = 0

  /// Answers of providers that came after their region's timeout, and were dropped.
  public var lateAnswers = 0

  /// How often a handler went on with its other thread: to follow a faulting thread, or to stop that
  /// (``HandlerPlacement``).
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
