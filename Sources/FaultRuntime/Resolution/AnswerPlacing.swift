/// What a delivery does where a page is not simply put in place: whether it reads on, waits, or puts the page off. The loop itself
/// stands once, in `place`.
protocol PlacingPolicy: ~Copyable {
  /// What the requests of this policy may do beyond the usual.
  var effort: PlacingEffort { get }

  /// Counts bytes that are put into the region, before the threads run that wait for them. The amount is negative for bytes that
  /// were counted and did not come.
  func countBytesFilled(_ amount: Int)

  /// How often the page at `page` has been found there while threads faulted on it.
  func presentReports(of page: UInt) -> Int

  /// The reports have led to a failure, and are counted anew.
  mutating func forgetPresentReports(of page: UInt)

  /// The page is there already. Nobody was woken, and `place` goes on behind it.
  mutating func foundPresent(_ page: AddressRange, _ run: borrowing FaultRun)

  /// The kernel wants something else to happen first. Returns whether the same request is made again.
  mutating func triesAgain() throws -> Bool

  /// The kernel still wants something else, and `rest` is not put in place now.
  mutating func putOff(_ rest: AddressRange, _ run: borrowing FaultRun) throws

  /// `rest` is not the region's any more.
  mutating func foundGone(_ rest: AddressRange, _ run: borrowing FaultRun) throws
}

extension PlacingPolicy where Self: ~Copyable {
  // A thread on whose way nobody faults again meets no endless reports.
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
        // Somebody was here before. Going on page by page would cost more than it saves.
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

  /// Handles the steps that are not on the way of a healthy fault. Returns how many bytes are stepped over.
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
      // A request across two mappings is refused as a whole. Page by page it is told which part is still ours.
      throw ResolutionError.refused(.noSuchFileOrDirectory)
    case .gone, .targetGone:
      try foundGone(rest, run)
    case .present, .endlesslyPresent:
      // The kernel says that the page is there, and threads keep faulting on it. Trying again would be for ever.
      forgetPresentReports(of: rest.start)
      throw ResolutionError.refused(.fileExists)
    case .fail(let errno):
      throw ResolutionError.refused(errno)
    case .done, .goOn, .copyInstead, .misuse:
      fatalError("FaultRuntime: resolving \(rest.byteCount) bytes at \(rest.start) ended in \(step)")
    }
    return rest.byteCount
  }
}
