/// Decides what a delivery does when a page cannot simply be put in place: it reads further messages, waits, or puts
/// the page off. All deliveries share the loop itself, which is in `place`.
protocol PlacingPolicy: ~Copyable {
  /// What the requests of this policy may do in addition to the usual work.
  var effort: PlacingEffort { get }

  /// Counts bytes that are put into the region, before the waiting threads run. The amount is negative to correct
  /// bytes that were counted but were not put in place.
  func countBytesFilled(_ amount: Int)

  /// Returns how often the kernel has reported the page at `page` as present while threads faulted on it.
  func presentReports(of page: UInt) -> Int

  /// Resets the count of reports for a page, because they have led to a failure.
  mutating func forgetPresentReports(of page: UInt)

  /// The page is already there. No thread was woken, and `place` continues behind the page.
  mutating func foundPresent(_ page: AddressRange, _ run: borrowing FaultRun)

  /// The kernel needs something else to happen first. Returns whether the same request should be made again.
  mutating func triesAgain() throws -> Bool

  /// The kernel still needs something else, so `rest` is not put in place now.
  mutating func putOff(_ rest: AddressRange, _ run: borrowing FaultRun) throws

  /// `rest` no longer belongs to the region.
  mutating func foundGone(_ rest: AddressRange, _ run: borrowing FaultRun) throws
}

extension PlacingPolicy where Self: ~Copyable {
  // A policy under which no thread faults on the same page again cannot get endless reports.
  func presentReports(of page: UInt) -> Int { 0 }
  func forgetPresentReports(of page: UInt) {}

  /// Puts an answer in place, until every page of it is there, has been put off, or has failed.
  ///
  /// - Returns: the offset where what is there ends.
  /// - Throws: a ``ResolutionError`` where the kernel refuses pages, and what the policy throws.
  @inline(__always)
  mutating func place<Memory: RegionMemory>(
    _ answer: PageAnswer, of run: borrowing FaultRun, in memory: Memory
  ) throws -> Int {
    let end = try unsafe place(answer.first, of: run, in: memory)
    guard let second = unsafe answer.second else { return end }
    return try unsafe place(second, of: run, in: memory)
  }

  @inline(__always)
  private mutating func place<Memory: RegionMemory>(
    _ part: AnswerPart, of run: borrowing FaultRun, in memory: Memory
  ) throws -> Int {
    let range = unsafe part.range
    countBytesFilled(range.byteCount)
    var done = 0
    while done < range.byteCount {
      switch unsafe memory.place(part, after: done, effort: effort) {
      case .done:
        return run.region.offset(of: range.end)
      case .goOn(let completed):
        done += completed
      case .present where run.isBeyondNeed(range.start &+ UInt(bitPattern: done)):
        // Another thread filled part of this range first. Going on page by page would cost more than it saves.
        countBytesFilled(done - range.byteCount)
        let end = run.region.offset(of: range.start) + done
        run.shrinkNext(at: end)
        return end
      case let step:
        done += try handle(step, at: range.dropping(done), run)
      }
    }
    return run.region.offset(of: range.end)
  }

  /// Handles the steps that a healthy fault never takes. Returns how many bytes are stepped over.
  @inline(never)
  private mutating func handle(
    _ step: ResolutionStep, at rest: AddressRange, _ run: borrowing FaultRun
  ) throws -> Int {
    let pageByteCount = run.region.pageSize.bytes
    switch step {
    case .present where presentReports(of: rest.start) < ResolutionStep.presentLimit:
      countBytesFilled(-pageByteCount)
      foundPresent(rest.prefix(pageByteCount), run)
      return pageByteCount
    case .later where try triesAgain():
      return 0
    default:
      countBytesFilled(-rest.byteCount)
    }
    switch step {
    case .later:
      try putOff(rest, run)
    case .gone where rest.byteCount > pageByteCount && !run.region.isClosing:
      // The kernel refuses a request that spans two mappings as a whole. Requests for single pages show which part
      // still belongs to the region.
      throw ResolutionError.refused(.noSuchFileOrDirectory)
    case .gone, .targetGone:
      try foundGone(rest, run)
    case .present:
      // The kernel says that the page is present, but threads keep faulting on it. Further tries would never end.
      forgetPresentReports(of: rest.start)
      throw ResolutionError.refused(.fileExists)
    case .fail(let errno):
      throw ResolutionError.refused(errno)
    case .failForMappings:
      throw ResolutionError.outOfMappings
    case .done, .goOn, .copyInstead, .misuse:
      fatalError("FaultRuntime: resolving \(rest.byteCount) bytes at \(rest.start) ended in \(step)")
    }
    return rest.byteCount
  }
}
