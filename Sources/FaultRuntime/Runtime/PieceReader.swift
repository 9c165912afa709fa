internal import CUFFD

/// Copies pages of a region into a buffer of its own, and leaves missing pages missing.
@safe
struct PieceReader: ~Copyable {
  private let region: LazyRegion
  private let buffer: UnsafeMutableRawBufferPointer
  /// What is known of each page of the buffer. The values are in the same mapping as the buffer, behind it: an array
  /// would be freed at the end of the reader, where no signals are held.
  private let states: UnsafeMutableBufferPointer<UInt8>
  private let mapping: UnsafeMutableRawBufferPointer

  init(_ region: LazyRegion, _ byteCount: Int) throws(FaultRuntimeError) {
    self.region = region
    let pageCount = byteCount / region.pageSize
    // The sum does not overflow: the buffer is at most as long as the region, and the values take no more than it does.
    let mappedByteCount = byteCount + (region.core.pageSize.roundUp(pageCount) ?? pageCount)
    var address: UnsafeMutableRawPointer?
    if let errno = unsafe KernelErrno(returned: cuffd_map_anonymous(mappedByteCount, true, &address)) {
      throw .cannotMap(region.name, mappedByteCount, errno)
    }
    unsafe mapping = UnsafeMutableRawBufferPointer(start: address, count: mappedByteCount)
    unsafe buffer = UnsafeMutableRawBufferPointer(rebasing: mapping[..<byteCount])
    unsafe states = mapping[byteCount...].prefix(pageCount).bindMemory(to: UInt8.self)
  }

  deinit { _ = unsafe cuffd_unmap(UInt64(UInt(bitPattern: mapping.baseAddress)), mapping.count) }

  /// Returns a part of the buffer. The bytes are valid until the buffer is filled again, and as long as the reader
  /// exists.
  @unsafe
  func unsafeBytes(_ part: Range<Int>) -> UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(rebasing: buffer[part])
  }

  /// Fills the buffer with the bytes of a range of whole pages.
  mutating func read(_ range: Range<Int>) throws(FaultRuntimeError) {
    let core = region.core
    let pageSize = region.pageSize
    // The program may have put other memory in the place of pages that it has moved or unmapped.
    if let lost = core.firstLostPage(of: range) { throw .pageLost(core, lost) }
    let count = range.count / pageSize
    let address = core.range.start &+ UInt(bitPattern: range.lowerBound)
    let all = AddressRange(start: address, byteCount: range.count)
    if let errno = unsafe core.memory.noteOccupied(all, in: states.baseAddress!) {
      throw .pageFailed(core, ResolutionError.refused(errno), atPage: address)
    }
    core.failures.forEachOffset(in: range) { offset in
      let page = (offset - range.lowerBound) / pageSize
      guard unsafe states[page] == State.something else { return }
      if !core.memory.isThere(core.range.start &+ UInt(bitPattern: offset)) {
        unsafe states[page] = copyUnlessPoisoned(offset, offset - range.lowerBound)
      }
    }
    var page = 0
    while page < count {
      var end = page + 1
      while unsafe end < count && states[end] == states[page] { end += 1 }
      if unsafe states[page] == State.something {
        try copy(range, page, end)
      } else if unsafe states[page] == State.nothing {
        try ask(range, page * pageSize, end * pageSize)
      }
      page = end
    }
  }

  /// What is known of a page. `RegionMemory.noteOccupied` writes the first two of these values.
  private enum State {
    static let nothing: UInt8 = 0
    static let something: UInt8 = 1
    static let copied: UInt8 = 2
  }

  /// Copies a page that has failed and has something in its place now. Either it is poisoned, or it has come since
  /// and was swapped out. `noteOccupied` cannot tell the two apart.
  private func copyUnlessPoisoned(_ offset: Int, _ place: Int) -> UInt8 {
    let page = AddressRange(start: region.core.address(of: offset), byteCount: region.pageSize)
    let isCopied = unsafe region.core.memory.copyIfPresent(page, to: buffer.baseAddress! + place)
    return isCopied ? State.copied : State.nothing
  }

  private func copy(_ range: Range<Int>, _ page: Int, _ end: Int) throws(FaultRuntimeError) {
    let part = (page * region.pageSize)..<(end * region.pageSize)
    // A page may be gone by now, or may have failed after all, so the copy goes the way that throws an error.
    try unsafe region.copyPages(
      range.lowerBound + part.lowerBound, into: UnsafeMutableRawBufferPointer(rebasing: buffer[part]))
  }

  private func ask(_ range: Range<Int>, _ start: Int, _ end: Int) throws(FaultRuntimeError) {
    let core = region.core
    for offset in stride(from: start, to: end, by: core.largestRequest) {
      let part = offset..<min(offset + core.largestRequest, end)
      if try !request(range, part) { try requestEachPage(range, part) }
    }
  }

  /// Makes a request for each page, after a request for all of them has failed: one of the pages may be the cause, or
  /// the provider answers with fewer bytes than were requested. Each request makes all attempts that the region's retry
  /// policy permits.
  private func requestEachPage(_ range: Range<Int>, _ part: Range<Int>) throws(FaultRuntimeError) {
    let core = region.core
    let run = FaultRun(
      region: core, from: range.lowerBound + part.lowerBound, to: range.lowerBound + part.upperBound)
    run.shrinkNext(at: run.start + core.requestUnit)
    for start in stride(from: part.lowerBound, to: part.upperBound, by: region.pageSize) {
      _ = try request(range, start..<(start + region.pageSize))
    }
  }

  /// Makes one request for a part of the buffer. Returns false where it has failed, and a request for fewer pages may
  /// do better. Throws where a request for one page fails.
  private func request(_ range: Range<Int>, _ part: Range<Int>) throws(FaultRuntimeError) -> Bool {
    let core = region.core
    guard !core.isAskedByCaller else { throw .prefetchFromProvider(core) }
    return try withObjectMadeUnderHeldSignals({
      unsafe PeekJob(
        core, (range.lowerBound + part.lowerBound)..<(range.lowerBound + part.upperBound),
        into: UnsafeMutableRawBufferPointer(rebasing: buffer[part]))
    }) { job throws(FaultRuntimeError) in
      let hasAnswered = try region.server.peek(job)
      if core.isClosing { throw .regionClosed(core) }
      let page = core.range.start &+ UInt(bitPattern: job.range.lowerBound)
      guard hasAnswered else {
        throw .pageFailed(
          core, ResolutionError.timeoutExceeded(.nanoseconds(Int64(clamping: core.timeout))), atPage: page)
      }
      guard let cause = job.failure else { return true }
      // A request for fewer pages would take as long again.
      let isTimeout = (cause as? ResolutionError)?.code == .timeoutExceeded
      guard part.count > region.pageSize, !isTimeout else { throw .pageFailed(core, cause, atPage: page) }
      return false
    }
  }
}
