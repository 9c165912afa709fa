internal import CUFFD

/// Copies pages of a region into a buffer of its own, and leaves missing pages missing.
@safe
struct PieceReader: ~Copyable {
  private let region: LazyRegion
  private let buffer: UnsafeMutableRawBufferPointer
  private var states: [UInt8]

  init(_ region: LazyRegion, _ byteCount: Int) throws(FaultRuntimeError) {
    self.region = region
    var address: UnsafeMutableRawPointer?
    if let errno = unsafe KernelErrno(returned: cuffd_map_anonymous(byteCount, true, &address)) {
      throw .cannotMap(region.name, byteCount, errno)
    }
    unsafe buffer = UnsafeMutableRawBufferPointer(start: address, count: byteCount)
    states = Array(repeating: 0, count: byteCount / region.pageSize)
  }

  deinit { _ = unsafe cuffd_unmap(UInt64(UInt(bitPattern: buffer.baseAddress)), buffer.count) }

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
    let result = unsafe states.withUnsafeMutableBufferPointer { states in
      unsafe core.memory.noteOccupied(AddressRange(start: address, byteCount: range.count), in: states.baseAddress!)
    }
    if let errno = result {
      throw .pageFailed(core.failure(ResolutionError.refused(errno), atPage: address))
    }
    for offset in core.failures.offsets(in: range)
    where states[(offset - range.lowerBound) / pageSize] == State.something {
      if !core.memory.isThere(core.range.start &+ UInt(bitPattern: offset)) {
        states[(offset - range.lowerBound) / pageSize] = copyUnlessPoisoned(offset, offset - range.lowerBound)
      }
    }
    var page = 0
    while page < count {
      var end = page + 1
      while end < count, states[end] == states[page] { end += 1 }
      if states[page] == State.something {
        try copy(range, page, end)
      } else if states[page] == State.nothing {
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
      do throws(FaultRuntimeError) {
        try ask(range, part)
      } catch {
        guard error.code == .pageFailed, part.count > region.pageSize, !error.isTimeout else { throw error }
        // One of the pages may be the cause, or the provider answers with fewer bytes than were requested.
        try narrow(error, range, part)
      }
    }
  }

  private func narrow(_ error: FaultRuntimeError, _ range: Range<Int>, _ part: Range<Int>) throws(FaultRuntimeError) {
    let core = region.core
    let run = FaultRun(
      region: core, from: range.lowerBound + part.lowerBound, to: range.lowerBound + part.upperBound)
    let pages = stride(from: run.start, to: run.end, by: region.pageSize).lazy.map { core.address(of: $0) }
    // `narrow` needs something to pass as `inout`. A value of no bytes has no address of its own, and ThreadSanitizer
    // would mistake accesses to it for accesses to another variable.
    var asked = range
    do {
      // The job that asks has made all attempts that the region's retry policy permits.
      try FaultRun.narrow(
        error, of: run, to: pages, with: &asked, retry: .never, until: { core.isClosing },
        ask: { asked, page in
          let start = core.offset(of: page) - asked.lowerBound
          try ask(asked, start..<(start + region.pageSize))
        }, giveUp: { _, _, error in throw error })
    } catch {
      guard let error = error as? FaultRuntimeError else {
        fatalError("FaultRuntime: a page that was peeked at ended in \(error)")
      }
      throw error
    }
  }

  /// Makes one request for a part of the buffer.
  private func ask(_ range: Range<Int>, _ part: Range<Int>) throws(FaultRuntimeError) {
    let core = region.core
    guard !core.isAskedByCaller else { throw .prefetchFromProvider(core) }
    let job = unsafe PeekJob(
      core, (range.lowerBound + part.lowerBound)..<(range.lowerBound + part.upperBound),
      into: UnsafeMutableRawBufferPointer(rebasing: buffer[part]))
    let hasAnswered = try region.server.peek(job)
    if core.isClosing { throw .regionClosed(core) }
    let cause =
      hasAnswered
      ? job.failure : ResolutionError.timeoutExceeded(.nanoseconds(Int64(clamping: core.timeout)))
    if let cause {
      throw .pageFailed(core.failure(cause, atPage: core.range.start &+ UInt(bitPattern: job.range.lowerBound)))
    }
  }
}

extension FaultRuntimeError {
  /// Whether the region's timeout ended the request. A request for fewer pages would take as long again.
  fileprivate var isTimeout: Bool {
    (failure?.cause as? ResolutionError)?.code == .timeoutExceeded
  }
}
