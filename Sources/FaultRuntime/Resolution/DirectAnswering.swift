internal import CUFFD

/// Answers requests on threads that read no messages: threads that serve their own fault, and threads of the provider
/// pool.
///
/// Nothing here allocates or locks unless a page fails.
struct DirectAnswering: Sendable {
  let counters: SharedCounters
  let reporter: FailureReporter
  /// How long the kernel may ask for another try, in nanoseconds.
  let resolveTimeout: UInt64
  /// Whether threads may sleep on the pages. A thread that serves its own fault does not sleep.
  let wakes: Bool

  /// Asks the provider for a run, and puts the answer in place. The caller counts the request.
  ///
  /// - Parameter memory: returns the memory of the region. It is called when the provider has returned, so that no
  ///   reference is held while the provider runs: a handler of the program may leave the provider by `siglongjmp`.
  /// - Returns: the offset where what is there ends.
  /// - Throws: a ``WithdrawnError`` if `permit` was withdrawn in the meantime, in which case nothing was put in place;
  ///   otherwise what the provider or ``PlacingPolicy`` throws.
  @inline(__always)
  func answer<Memory: RegionMemory>(
    _ run: borrowing FaultRun, lastWanted: Int, isWrite: Bool, stage: UnsafeMutableRawBufferPointer,
    forbidden: RegionGroup?, permit: AnswerPermit? = nil, effort: PlacingEffort = .usual, in memory: (Region) -> Memory
  ) throws -> Int {
    permit?.ask()
    let answer = unsafe try run.ask(
      lastWanted: lastWanted, isWrite: isWrite, stage: stage, isForbidden: { forbidden?.intersects($0) ?? false })
    try permit?.beginPlacing()
    var policy = DirectPlacing(self, effort)
    // The region keeps its memory alive. A reference that is counted would make all faulting threads write to one place
    // in memory.
    return try unsafe Unmanaged.passUnretained(memory(run.region))._withUnsafeGuaranteedRef {
      try unsafe policy.place(answer, of: run, in: $0)
    }
  }

  /// Reports why a page cannot be produced, and makes accesses to it fail.
  ///
  /// - Returns: false where the access fails, and true where the page is there after all.
  @discardableResult
  func fail(_ page: UInt, of region: Region, _ error: any Error) -> Bool {
    let memory = region.memory
    let range = AddressRange(start: page, byteCount: region.pageSize.bytes)
    if region.hasBeenServed(page) {
      if wakes { memory.wake(range) }
      return true
    }
    counters.countFailure()
    reporter.report(error, atPage: page, of: region)
    var patience = Patience(nanoseconds: resolveTimeout)
    while true {
      switch memory.failPage(range) {
      case .done: return false
      case .later where patience.lasts(): continue
      case .present:
        if wakes { memory.wake(range) }
        // A page that has failed counts as present here. The thread can continue only if the page is really there.
        return memory.isThere(page)
      case .gone:
        if wakes { memory.wake(range) }
        return true
      case .targetGone: return true
      case .later:
        // The waiting threads ask again, and the page fails as soon as the kernel permits it.
        if wakes { memory.wake(range) }
        return false
      default:
        // Without poison (before Linux 6.6) the page stays missing. A thread that serves its own fault gets its
        // signal, and the next touch asks again.
        if wakes { reporter.cannotPoison(page, of: region) }
        return false
      }
    }
  }
}

/// The memory at a page belongs to the region no more, and the signal is about what is mapped there now.
struct ForeignMemoryError: Error {}

/// Puts pages in place on a thread that reads no messages. This policy waits if the kernel needs something else
/// first.
@safe
private struct DirectPlacing: PlacingPolicy {
  // The reference is not counted, because a count would make all faulting threads write to one place in memory. The
  // `DirectAnswering` that makes the policy outlives it, and keeps the counters alive.
  private let counters: Unmanaged<SharedCounters>
  private let wakes: Bool
  let effort: PlacingEffort
  private var patience: Patience

  @inline(__always)
  init(_ answering: DirectAnswering, _ effort: PlacingEffort) {
    unsafe counters = .passUnretained(answering.counters)
    wakes = answering.wakes
    self.effort = effort
    patience = Patience(nanoseconds: answering.resolveTimeout)
  }

  @inline(__always)
  func countBytesFilled(_ amount: Int) {
    unsafe counters._withUnsafeGuaranteedRef { $0.countBytesFilled(amount) }
  }

  func foundPresent(_ page: AddressRange, _ run: borrowing FaultRun) {
    unsafe counters._withUnsafeGuaranteedRef { $0.countAlreadyPresent() }
    if wakes { run.region.memory.wake(page) }
  }

  mutating func triesAgain() -> Bool {
    let lasts = patience.lasts()
    if lasts, patience.isFirst { unsafe counters._withUnsafeGuaranteedRef { $0.countDeferral() } }
    return lasts
  }

  func putOff(_ rest: AddressRange, _ run: borrowing FaultRun) throws { throw ResolutionError.resolveTimedOut }

  /// Wakes the waiting threads, which then meet what is mapped there now. A thread that serves its own fault touches
  /// the page again. If it gets the same signal again, the signal comes from what is mapped there now.
  func foundGone(_ rest: AddressRange, _ run: borrowing FaultRun) throws {
    if wakes { return run.region.memory.wake(rest) }
    let isAgain = effort.contains(.inSignalHandler) && cuffd_signal_repeats(UInt64(rest.start)) > 1
    if isAgain { throw ForeignMemoryError() }
  }
}

/// Tries again for a while: the first time at once, and then after pauses.
private struct Patience {
  private let nanoseconds: UInt64
  private var start: UInt64 = 0
  private var backoff = Backoff()
  /// Whether the latest try again was the first one.
  private(set) var isFirst = false

  init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

  /// Pauses, and returns whether there should be another try.
  @_noLocks @_noAllocation
  mutating func lasts() -> Bool {
    isFirst = start == 0
    if isFirst { start = cuffd_monotonic_nanoseconds() }
    backoff.pause()
    return cuffd_monotonic_nanoseconds() - start < nanoseconds
  }
}
