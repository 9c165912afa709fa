internal import CUFFD

/// Fills ranges that nobody has touched yet, a step at a time: whole huge pages are assembled in staging memory and moved in
/// (`UFFDIO_MOVE`), everything else is asked for and put in place as a fault would be.
///
/// One step gets a huge page, or fills one, or is the provider's largest request, so that whoever runs it can serve faults in
/// between.
struct BulkFiller: ~Copyable {
  /// Why a step could not fill its pages: the cause, and the first page that it concerns.
  struct Failure: Error {
    var cause: any Error
    var page: UInt
  }

  /// The kernel wants an event read, or its effects over, before anything is put in place: for whoever runs the steps to do.
  private struct PutOff: Error {}

  /// How long a page has been put off. Others may go on with it meanwhile, and it may be asked for again much later.
  private struct PutOffs {
    private var page: UInt = 0
    private var first: UInt64 = 0
    private var latest: UInt64 = 0

    /// Nanoseconds for which the kernel has been asking for another try, without a quiet second.
    mutating func duration(at page: UInt, now: UInt64) -> UInt64 {
      if page != self.page || now - latest > 1_000_000_000 { first = now }
      self.page = page
      latest = now
      return now - first
    }
  }

  private let pageSize: PageSize
  private let hugePageByteCount: Int
  /// How long the kernel may ask for another try, in nanoseconds.
  private let retryDeadline: UInt64
  private var putOff = PutOffs()
  private var staging = StagingBuffer()
  private var hugeStaging: UInt = 0
  /// Whether the staging memory has its huge page: it is gone when it has been moved.
  private var hasHugePage = false
  private var residency: [UInt8]

  init(pageSize: PageSize, retryDeadline: UInt64) {
    self.pageSize = pageSize
    self.retryDeadline = retryDeadline
    hugePageByteCount = Int(cuffd_huge_page_size())
    // As many pages as a huge page has, so that one look decides.
    residency = Array(repeating: 0, count: max(512, hugePageByteCount / pageSize.bytes))
  }

  deinit {
    if hugeStaging != 0 { _ = cuffd_unmap(UInt64(hugeStaging), hugePageByteCount) }
  }

  /// Gives back the huge page that was got for a step that did not come.
  mutating func finish() {
    if hasHugePage { dropHugeStaging() }
  }

  private mutating func dropHugeStaging() {
    _ = cuffd_unmap(UInt64(hugeStaging), hugePageByteCount)
    hugeStaging = 0
    hasHugePage = false
  }

  /// Fills some of the pages from `offset` on that are missing, or prepares that, and returns the offset where the next step
  /// begins, at most `end`; both are multiples of the page size.
  mutating func step<Target: PageTarget & ~Copyable>(
    _ region: Region, from offset: Int, to end: Int, _ target: borrowing Target,
    forbidden: RegionTable?, permit: AnswerPermit? = nil, counting count: (Int) -> Void
  ) throws(Failure) -> Int {
    let address = region.range.start &+ UInt(bitPattern: offset)
    let window = min(end - offset, residency.count * pageSize.bytes)
    let pages = window / pageSize.bytes
    let result = unsafe residency.withUnsafeMutableBufferPointer { buffer in
      unsafe target.note(AddressRange(start: address, byteCount: window), in: buffer.baseAddress!)
    }
    if let errno = result {
      throw Failure(cause: ResolutionError.refused(errno), page: address)
    }
    guard let firstMissing = residency[..<pages].firstIndex(where: { $0 & 1 == 0 }) else { return offset + window }
    let firstPresent = residency[firstMissing..<pages].firstIndex { $0 & 1 != 0 } ?? pages
    let start = offset + firstMissing * pageSize.bytes
    let missing = (firstPresent - firstMissing) * pageSize.bytes

    if canMove(region, target), missing >= hugePageByteCount,
      (region.range.start &+ UInt(bitPattern: start)) % UInt(hugePageByteCount) == 0,
      start + hugePageByteCount <= region.byteCount
    {
      // The kernel zeroes it, which takes as long as filling it: a step of its own.
      if !hasHugePage, getHugePage() { return start }
      if try fillHuge(region, start, target, forbidden: forbidden, permit, counting: count) {
        return start + hugePageByteCount
      }
    }
    // Up to the next place where a huge page may begin, so that the rest can be moved.
    let toBoundary =
      hugePageByteCount == 0
      ? missing
      : hugePageByteCount - Int((region.range.start &+ UInt(bitPattern: start)) % UInt(hugePageByteCount))
    let length = min(missing, region.largestRequest, toBoundary)
    do throws(Failure) {
      try fillPages(region, start, start + length, target, forbidden: forbidden, permit, counting: count)
    } catch {
      guard error.cause is PutOff else { throw error }
      // The next step begins with what is missing then. The handler reads events between steps.
      if putOff.duration(at: error.page, now: cuffd_monotonic_nanoseconds()) < retryDeadline { return start }
      throw Failure(cause: ResolutionError.timedOut, page: error.page)
    }
    return start + length
  }

  /// How far one step from `offset` may get.
  func boundary(in region: Region, after offset: Int) -> Int {
    guard hugePageByteCount > 0 else { return offset + region.largestRequest }
    let address = region.range.start &+ UInt(bitPattern: offset)
    return offset + hugePageByteCount - Int(address % UInt(hugePageByteCount))
  }

  private func canMove<Target: PageTarget & ~Copyable>(_ region: Region, _ target: borrowing Target) -> Bool {
    hugePageByteCount > 0 && region.isWritable && target.movesPages
  }

  private mutating func fillPages<Target: PageTarget & ~Copyable>(
    _ region: Region, _ start: Int, _ end: Int, _ target: borrowing Target, forbidden: RegionTable?,
    _ permit: AnswerPermit?, counting count: (Int) -> Void
  ) throws(Failure) {
    let run = FaultRun(region: region, from: start, to: end)
    var attempts = RetryAttempts(region.retry)
    while true {
      do {
        return try fill(run, target, forbidden: forbidden, permit, counting: count)
      } catch {
        if error is PutOff { throw Failure(cause: error, page: run.range.start) }
        if run.isOnePage || error is WithdrawnError {
          let isOver = { region.isClosing || permit?.isWithdrawn ?? false }
          if attempts.mayGoOn(after: error, until: isOver) { continue }
          throw Failure(cause: error, page: run.range.start)
        }
      }
      // One of the pages is to blame: find out which.
      for page in stride(from: start, to: end, by: pageSize.bytes) {
        try fillPages(region, page, page + pageSize.bytes, target, forbidden: forbidden, permit, counting: count)
      }
      return
    }
  }

  private mutating func fill<Target: PageTarget & ~Copyable>(
    _ run: borrowing FaultRun, _ target: borrowing Target, forbidden: RegionTable?, _ permit: AnswerPermit?,
    counting count: (Int) -> Void
  ) throws {
    guard let stage = unsafe staging.bytes(run.end - run.start, pageSize: pageSize) else {
      throw ResolutionError.refused(.noMemory)
    }
    permit?.ask()
    let answer = unsafe try run.ask(
      lastWanted: run.end - pageSize.bytes, isWrite: false, stage: stage,
      isForbidden: { forbidden?.intersects($0) ?? false })
    try permit?.beginPlacing()
    try unsafe put(answer.first, target, counting: count)
    if let second = unsafe answer.second { try unsafe put(second, target, counting: count) }
  }

  private func put<Target: PageTarget & ~Copyable>(
    _ part: AnswerPart, _ target: borrowing Target, counting count: (Int) -> Void
  ) throws {
    let range = unsafe part.range
    var done = 0
    var retries = 0
    while done < range.byteCount {
      // Counted before the threads that wait for it run.
      count(range.byteCount - done)
      let step = unsafe target.putCuring(part, after: done, pageSize: pageSize)
      if step != .done { count(done - range.byteCount) }
      switch step {
      case .done:
        return
      case .goOn(let completed):
        count(completed)
        done += completed
      case .present:
        // A fault was faster. Whoever waits there is woken by whoever filled it.
        done += pageSize.bytes
      case .later where retries < 256:
        retries += 1
        cuffd_pause(0)
      case .later:
        throw PutOff()
      case .fail(let errno):
        throw ResolutionError.refused(errno)
      case .gone, .targetGone, .endlesslyPresent:
        throw ResolutionError.refused(.noSuchFileOrDirectory)
      case .copyInstead, .misuse:
        fatalError("FaultRuntime: filling \(range.byteCount) bytes at \(range.start) ended in \(step)")
      }
    }
  }

  /// Puts a huge page into the staging memory. False where there is no memory for it.
  private mutating func getHugePage() -> Bool {
    if hugeStaging == 0 {
      var mapped: UnsafeMutableRawPointer?
      guard unsafe cuffd_map_huge_staging(hugePageByteCount, &mapped) == 0 else { return false }
      hugeStaging = UInt(bitPattern: mapped)
    }
    unsafe UnsafeMutableRawPointer(bitPattern: hugeStaging)!.storeBytes(of: 0, as: UInt8.self)
    hasHugePage = true
    return true
  }

  /// Assembles one huge page and moves it in. False where something stands against it, and copying has to do.
  private mutating func fillHuge<Target: PageTarget & ~Copyable>(
    _ region: Region, _ start: Int, _ target: borrowing Target, forbidden: RegionTable?,
    _ permit: AnswerPermit?, counting count: (Int) -> Void
  ) throws(Failure) -> Bool {
    guard hasHugePage else { return false }
    let base = unsafe UnsafeMutableRawPointer(bitPattern: hugeStaging)!
    var filled = 0
    while filled < hugePageByteCount {
      let length = min(region.largestRequest, hugePageByteCount - filled)
      let run = FaultRun(region: region, from: start + filled, to: start + filled + length)
      let stage = unsafe UnsafeMutableRawBufferPointer(start: base + filled, count: length)
      do {
        permit?.ask()
        let answer = unsafe try run.ask(
          lastWanted: run.end - pageSize.bytes, isWrite: true, stage: stage,
          isForbidden: { forbidden?.intersects($0) ?? false })
        try unsafe assemble(answer, run, stage)
        try permit?.beginPlacing()
      } catch let error as WithdrawnError {
        dropHugeStaging()
        throw Failure(cause: error, page: run.range.start)
      } catch {
        // Page by page it will be clear which one is to blame.
        dropHugeStaging()
        return false
      }
      filled += length
    }
    let range = AddressRange(start: region.range.start &+ UInt(bitPattern: start), byteCount: hugePageByteCount)
    count(hugePageByteCount)
    do {
      try target.moveIn(range, from: hugeStaging)
      hasHugePage = false
      return true
    } catch {
      count(-hugePageByteCount)
      // A page was touched meanwhile, or the source is pinned: what was moved so far is stepped over as present.
      if error.completedByteCount > 0 { count(error.completedByteCount) }
      // The kernel has split it by now, and a mapping that held small pages may never hold a huge one again.
      dropHugeStaging()
      return false
    }
  }

  /// Copies what an answer lends into its place in the staging memory; what was filled in is there already.
  private func assemble(_ answer: PageAnswer, _ run: FaultRun, _ stage: UnsafeMutableRawBufferPointer) throws {
    let part = unsafe answer.first
    let length = unsafe part.range.byteCount
    guard unsafe answer.second == nil, length == run.end - run.start else {
      throw ResolutionError.answerTooShort(produced: length, wanted: run.end - run.start)
    }
    guard let source = unsafe part.source else {
      unsafe stage.initializeMemory(as: UInt8.self, repeating: 0)
      return
    }
    if unsafe source == UnsafeRawPointer(stage.baseAddress!) { return }
    // Memory that was unmapped since is found. Having the kernel copy, which finds everything, takes half as long again.
    guard cuffd_is_mapped(UInt64(UInt(bitPattern: source)), length) else { throw ResolutionError.refused(.badAddress) }
    unsafe stage.copyMemory(from: UnsafeRawBufferPointer(start: source, count: length))
  }
}
