internal import CUFFD

/// Fills ranges that no thread has touched yet, one step at a time. Whole huge pages are assembled in staging memory
/// and moved into the region (`UFFDIO_MOVE`). Everything else is requested and put in place in the same way as for a
/// fault.
///
/// One step allocates a huge page, fills one, or makes one request of at most the provider's largest size. The steps
/// are this short so that the thread that runs them can serve faults between them.
struct BulkFiller: ~Copyable {
  /// Why a step could not fill its pages: the cause, and the first page that it concerns.
  struct Failure: Error {
    var cause: any Error
    var page: UInt
  }

  /// The kernel needs an event to be read, or the effects of an event to end, before anything is put in place. The
  /// code that runs the steps takes care of that.
  private struct PutOff: EndOfResolution {
    /// The first page that the kernel did not take yet.
    let page: UInt
  }

  /// Measures how long a page has been put off. Other threads may fill it in the meantime, and it may be requested
  /// again much later.
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
  private let resolveTimeout: UInt64
  private var putOff = PutOffs()
  private var staging = StagingBuffer()
  private var hugeStaging: UInt = 0
  /// Whether the staging memory has its huge page. Moving the page into the region takes it away from the staging
  /// memory.
  private var hasHugePage = false
  private var residency: [UInt8]

  init(pageSize: PageSize, resolveTimeout: UInt64) {
    self.pageSize = pageSize
    self.resolveTimeout = resolveTimeout
    hugePageByteCount = Int(cuffd_huge_page_size())
    // The array has one entry for each page of a huge page, so that one look decides.
    residency = Array(repeating: 0, count: max(512, hugePageByteCount / pageSize.bytes))
  }

  deinit {
    if hugeStaging != 0 { _ = cuffd_unmap(UInt64(hugeStaging), hugePageByteCount) }
  }

  /// Gives back the huge page that was allocated for a step that was never made.
  mutating func finish() {
    if hasHugePage { dropHugeStaging() }
  }

  private mutating func dropHugeStaging() {
    _ = cuffd_unmap(UInt64(hugeStaging), hugePageByteCount)
    hugeStaging = 0
    hasHugePage = false
  }

  /// Fills some of the missing pages from `offset` on, or prepares that. Returns the offset where the next step begins,
  /// which is at most `end`. Both offsets are multiples of the page size.
  mutating func step(
    _ region: Region, from offset: Int, to end: Int, forbidden: RegionGroup?, permit: AnswerPermit? = nil,
    counting counter: some FillCounter
  ) throws(Failure) -> Int {
    let pages = try noteResident(region, from: offset, to: end)
    let window = pages * pageSize.bytes
    guard let firstMissing = residency[..<pages].firstIndex(where: { $0 & 1 == 0 }) else { return offset + window }
    let firstPresent = residency[firstMissing..<pages].firstIndex { $0 & 1 != 0 } ?? pages
    let start = offset + firstMissing * pageSize.bytes
    let missing = (firstPresent - firstMissing) * pageSize.bytes

    if canMove(region), missing >= hugePageByteCount,
      (region.range.start &+ UInt(bitPattern: start)) % UInt(hugePageByteCount) == 0,
      start + hugePageByteCount <= region.byteCount
    {
      // The kernel clears the huge page, which takes as long as filling it, so this is a step of its own.
      if !hasHugePage, getHugePage() { return start }
      if try fillHuge(region, start, forbidden: forbidden, permit, counting: counter) {
        return start + hugePageByteCount
      }
    }
    let length = min(missing, region.largestRequest, distanceToHugePage(in: region, after: start) ?? missing)
    do throws(Failure) {
      try fillPages(region, start, start + length, forbidden: forbidden, permit, counting: counter)
    } catch {
      guard error.cause is PutOff else { throw error }
      // The next step begins with the pages that are missing at that time. The handler reads events between steps.
      if putOff.duration(at: error.page, now: cuffd_monotonic_nanoseconds()) < resolveTimeout { return start }
      throw Failure(cause: ResolutionError.resolveTimedOut, page: error.page)
    }
    return start + length
  }

  /// Notes which pages from `offset` on are resident, and returns of how many pages that is known.
  private mutating func noteResident(_ region: Region, from offset: Int, to end: Int) throws(Failure) -> Int {
    let address = region.address(of: offset)
    let window = min(end - offset, residency.count * pageSize.bytes)
    let count = window / pageSize.bytes
    let memory = region.memory
    let size = pageSize.bytes
    return try unsafe residency.withUnsafeMutableBufferPointer { buffer throws(Failure) in
      let notes = buffer.baseAddress!
      let all = AddressRange(start: address, byteCount: window)
      guard let errno = unsafe memory.noteResident(all, in: notes) else { return count }
      guard errno == .noMemory else { throw Failure(cause: ResolutionError.refused(errno), page: address) }
      // The kernel refuses the whole range where the program has unmapped a part of it just now, and no thread has read
      // the event yet.
      for page in 0..<count {
        let single = all.dropping(page * size).prefix(size)
        if unsafe memory.noteResident(single, in: notes + page) == nil { continue }
        if page > 0 { return page }
        throw Failure(cause: ResolutionError.refused(.noSuchFileOrDirectory), page: address)
      }
      return count
    }
  }

  /// Returns the offset that one step from `offset` can reach at most.
  func boundary(in region: Region, after offset: Int) -> Int {
    offset + (distanceToHugePage(in: region, after: offset) ?? residency.count * pageSize.bytes)
  }

  /// Returns the distance from `start` to the next huge page that can be moved into the region as a whole, in bytes;
  /// nil where there is none. A step ends there, so that the huge page can be moved.
  private func distanceToHugePage(in region: Region, after start: Int) -> Int? {
    guard canMove(region) else { return nil }
    let distance =
      hugePageByteCount - Int((region.range.start &+ UInt(bitPattern: start)) % UInt(hugePageByteCount))
    return start + distance + hugePageByteCount <= region.byteCount ? distance : nil
  }

  private func canMove(_ region: Region) -> Bool {
    hugePageByteCount > 0 && region.isWritable && region.memory.movesPages
  }

  private mutating func fillPages(
    _ region: Region, _ start: Int, _ end: Int, forbidden: RegionGroup?, _ permit: AnswerPermit?,
    counting counter: some FillCounter
  ) throws(Failure) {
    let run = FaultRun(region: region, from: start, to: end)
    do {
      do {
        try fill(run, forbidden: forbidden, permit, counting: counter)
      } catch let error where !(error is any EndOfResolution) {
        let pages = stride(from: start, to: end, by: pageSize.bytes).lazy.map { region.address(of: $0) }
        try FaultRun.narrow(
          error, of: run, to: pages, with: &self, until: { region.isClosing || permit?.isWithdrawn ?? false },
          ask: { filler, page in
            let offset = region.offset(of: page)
            let single = FaultRun(region: region, from: offset, to: offset + region.pageSize.bytes)
            try filler.fill(single, forbidden: forbidden, permit, counting: counter)
          }, giveUp: { _, page, error in throw Failure(cause: error, page: page) })
      }
    } catch let failure as Failure {
      throw failure
    } catch let putOff as PutOff {
      throw Failure(cause: putOff, page: putOff.page)
    } catch {
      throw Failure(cause: error, page: run.range.start)
    }
  }

  private mutating func fill(
    _ run: borrowing FaultRun, forbidden: RegionGroup?, _ permit: AnswerPermit?, counting counter: some FillCounter
  ) throws {
    guard let stage = unsafe staging.bytes(run.end - run.start, pageSize: pageSize) else {
      throw ResolutionError.noBuffer(of: run.end - run.start)
    }
    permit?.ask()
    let answer = unsafe try run.ask(
      lastWanted: run.end - pageSize.bytes, isWrite: false, stage: stage,
      isForbidden: { forbidden?.intersects($0) ?? false })
    try permit?.beginPlacing()
    var policy = BulkPlacing(counter: counter)
    _ = try unsafe policy.place(answer, of: run, in: run.region.memory)
  }

  /// Puts pages in place that no thread has touched yet. If the kernel needs something else first, this policy tries
  /// again for a moment and then leaves the pages to a later step.
  private struct BulkPlacing<Counter: FillCounter>: PlacingPolicy {
    let counter: Counter
    private var tries = 0

    init(counter: Counter) { self.counter = counter }

    var effort: PlacingEffort { .usual }

    func countBytesFilled(_ amount: Int) { counter.countBytesFilled(amount) }

    /// A fault was faster. The thread that filled the page has woken the threads that waited for it.
    func foundPresent(_ page: AddressRange, _ run: borrowing FaultRun) {}

    mutating func triesAgain() -> Bool {
      guard tries < 256 else { return false }
      tries += 1
      cuffd_pause(0)
      return true
    }

    func putOff(_ rest: AddressRange, _ run: borrowing FaultRun) throws { throw PutOff(page: rest.start) }

    func foundGone(_ rest: AddressRange, _ run: borrowing FaultRun) throws {
      throw ResolutionError.refused(.noSuchFileOrDirectory)
    }
  }

  /// Puts a huge page into the staging memory. Returns false if there is no memory for it.
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

  /// Assembles one huge page and moves it in. Returns false if that is not possible, and the bytes have to be copied.
  private mutating func fillHuge(
    _ region: Region, _ start: Int, forbidden: RegionGroup?, _ permit: AnswerPermit?,
    counting counter: some FillCounter
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
        // Requests for single pages will show which page is the cause.
        dropHugeStaging()
        return false
      }
      filled += length
    }
    let range = AddressRange(start: region.range.start &+ UInt(bitPattern: start), byteCount: hugePageByteCount)
    counter.countBytesFilled(hugePageByteCount)
    let step = region.memory.moveIn(range, from: hugeStaging)
    if step == .done {
      hasHugePage = false
      return true
    }
    counter.countBytesFilled(-hugePageByteCount)
    // A page was touched in the meantime, or the source is pinned. The pages that were moved so far are there now,
    // and the copying that follows steps over them. Copying also meets every error that is not about moving.
    if case .goOn(let completed) = step { counter.countBytesFilled(completed) }
    // The kernel has split the huge page by now, and a mapping that held small pages may never hold a huge page again.
    dropHugeStaging()
    return false
  }

  /// Copies memory that an answer lends into its place in the staging memory. Bytes that the provider has filled in
  /// are there already.
  private func assemble(_ answer: PageAnswer, _ run: FaultRun, _ stage: UnsafeMutableRawBufferPointer) throws {
    let part = unsafe answer.first
    let length = unsafe part.range.byteCount
    guard unsafe answer.second == nil, length == run.end - run.start else {
      throw ResolutionError.answerTooShort(produced: length, wanted: run.end - run.start)
    }
    guard case .bytes(let source, _) = unsafe part.content else {
      unsafe stage.initializeMemory(as: UInt8.self, repeating: 0)
      return
    }
    if unsafe source == UnsafeRawPointer(stage.baseAddress!) { return }
    // This check finds memory that has been unmapped. Letting the kernel copy would find every bad address, but takes
    // half as long again.
    guard cuffd_is_mapped(UInt64(UInt(bitPattern: source)), length) else { throw ResolutionError.refused(.badAddress) }
    unsafe stage.copyMemory(from: UnsafeRawBufferPointer(start: source, count: length))
  }
}
