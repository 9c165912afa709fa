internal import CUFFD

/// Answers requests on threads that read no messages: those that faulted themselves, and those of the provider pool.
///
/// Nothing here allocates or locks unless a page fails.
struct DirectResolver: Sendable {
  let pageSize: PageSize
  let counters: SharedCounters
  let reporter: FailureReporter
  /// How long the kernel may ask for another try, in nanoseconds.
  let retryDeadline: UInt64
  /// Whether threads may be asleep on the pages. One that faulted itself is not.
  let wakes: Bool

  /// Asks the provider for a run, and puts the answer in place. Returns the offset where what is there ends. The request is
  /// the caller's to count. Throws a `WithdrawnError` where `permit` was withdrawn meanwhile: nothing has changed then.
  @inline(__always)
  func answer<Target: PageTarget & ~Copyable>(
    _ run: borrowing FaultRun, lastWanted: Int, isWrite: Bool, stage: UnsafeMutableRawBufferPointer,
    forbidden: RegionTable?, permit: AnswerPermit? = nil, _ target: borrowing Target
  ) throws -> Int {
    permit?.ask()
    let answer = unsafe try run.ask(
      lastWanted: lastWanted, isWrite: isWrite, stage: stage, isForbidden: { forbidden?.intersects($0) ?? false })
    try permit?.beginPlacing()
    var end = try unsafe put(answer.first, run, target)
    if let second = unsafe answer.second { end = try unsafe put(second, run, target) }
    return end
  }

  @inline(__always)
  private func put<Target: PageTarget & ~Copyable>(
    _ part: AnswerPart, _ run: borrowing FaultRun, _ target: borrowing Target
  ) throws(ResolutionError) -> Int {
    let range = unsafe part.range
    let offset = run.region.offset(of: range.start)
    counters.countBytesFilled(range.byteCount)
    var done = 0
    var patience = Patience(nanoseconds: retryDeadline)
    while done < range.byteCount {
      switch unsafe target.putCuring(part, after: done, pageSize: pageSize) {
      case .done:
        return offset + range.byteCount
      case .goOn(let completed):
        done += completed
      case .present where run.isBeyondNeed(range.start &+ UInt(bitPattern: done)):
        // Somebody was here before. Going on page by page would cost more than it saves.
        counters.countBytesFilled(done - range.byteCount)
        run.shrinkNext(at: offset + done)
        return offset + done
      case .present:
        counters.countAlreadyPresent()
        counters.countBytesFilled(-pageSize.bytes)
        if wakes { target.wakeWaiters(range.dropping(done).prefix(pageSize.bytes)) }
        done += pageSize.bytes
      case .later where patience.lasts():
        if patience.isFirst { counters.countDeferral() }
      case let step:
        try refuse(step, range.dropping(done), run, target)
        return offset + range.byteCount
      }
    }
    return offset + range.byteCount
  }

  private func refuse<Target: PageTarget & ~Copyable>(
    _ step: ResolutionStep, _ rest: AddressRange, _ run: borrowing FaultRun, _ target: borrowing Target
  ) throws(ResolutionError) {
    counters.countBytesFilled(-rest.byteCount)
    switch step {
    case .gone where rest.byteCount > pageSize.bytes && !run.region.isClosing:
      // A request across two mappings is refused as a whole. Page by page, then.
      throw ResolutionError.refused(.noSuchFileOrDirectory)
    case .fail(let errno):
      throw ResolutionError.refused(errno)
    case .later:
      throw ResolutionError.timedOut
    case .gone, .targetGone, .done, .goOn, .present, .endlesslyPresent:
      // Whoever waits looks again, and meets what is there now.
      if wakes { target.wakeWaiters(rest) }
    case .copyInstead, .misuse:
      fatalError("FaultRuntime: resolving \(rest.byteCount) bytes at \(rest.start) ended in \(step)")
    }
  }

  /// Says why a page cannot be produced, and has access to it fail. False: the access fails; true: the page is there after all.
  @discardableResult
  func fail<Target: PageTarget & ~Copyable>(
    _ page: UInt, of region: Region, _ error: any Error, _ target: borrowing Target
  ) -> Bool {
    let range = AddressRange(start: page, byteCount: pageSize.bytes)
    if region.hasBeenServed(page) {
      if wakes { target.wakeWaiters(range) }
      return true
    }
    counters.countFailure()
    reporter.report(error, atPage: page, of: region)
    var patience = Patience(nanoseconds: retryDeadline)
    while true {
      switch target.failPage(range) {
      case .done: return false
      case .later where patience.lasts(): continue
      case .present:
        if wakes { target.wakeWaiters(range) }
        // A poisoned page counts as present here. Only one that is really there lets the thread go on.
        return region.isThere(page)
      case .gone:
        if wakes { target.wakeWaiters(range) }
        return true
      case .targetGone: return true
      case .later:
        // Whoever waits asks again: this page fails when the kernel lets it.
        if wakes { target.wakeWaiters(range) }
        return false
      default:
        // Without poison (before Linux 6.6) the page stays missing. A thread that faulted itself gets its signal, and the
        // next touch asks again.
        if wakes { reporter.cannotPoison(page, of: region) }
        return false
      }
    }
  }
}

/// Tries again for a while, first at once and then with pauses.
private struct Patience {
  private let nanoseconds: UInt64
  private var start: UInt64 = 0
  private var backoff = Backoff()
  private(set) var isFirst = false

  init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

  /// Pauses, and says whether there shall be another try.
  @_noLocks @_noAllocation
  mutating func lasts() -> Bool {
    isFirst = start == 0
    if isFirst { start = cuffd_monotonic_nanoseconds() }
    backoff.pause()
    return cuffd_monotonic_nanoseconds() - start < nanoseconds
  }
}
