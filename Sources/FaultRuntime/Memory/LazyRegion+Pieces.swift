internal import CUFFD

extension LazyRegion {
  /// Reads a range in pieces through a buffer, and leaves pages that are missing as they are: for data that is passed on once
  /// (`write(2)` to a socket, a checksum, a copy) and should not take memory afterwards.
  ///
  /// Pages that are there are copied, written ones with what was written. For the others the provider is asked, as for a fault,
  /// but its answer goes into the buffer only; nothing keeps it from being asked for the same page by a fault at that moment.
  /// For the other direction, `read(2)` into a buffer and `write(_:at:)`: what is written has to be resident.
  ///
  /// Blocks as long as the provider takes, at most the region's deadline for each request. Allocates one buffer.
  ///
  /// - Parameters:
  ///   - range: offsets in bytes, within `0..<byteCount`.
  ///   - pieceByteCount: the most that one piece has; at least 1. It is rounded up to whole pages.
  ///   - body: gets each piece in turn, and where it starts in the region. The buffer is valid during the call only. Only the
  ///     first and the last piece may be shorter.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `prefetchFromProvider` or `pageFailed`, or
  ///   what `body` throws.
  @unsafe
  public func forEachPiece(
    of range: Range<Int>, byteCount pieceByteCount: Int = 1 << 20,
    _ body: (UnsafeRawBufferPointer, Int) throws -> Void
  ) throws {
    precondition(pieceByteCount > 0, "forEachPiece: a piece has at least one byte, got \(pieceByteCount)")
    guard let pages = try pages(of: range) else { return }
    let step = min(core.pageSize.roundUp(pieceByteCount) ?? .max, pages.count)
    var reader = try PieceReader(self, step)
    for start in stride(from: pages.lowerBound, to: pages.upperBound, by: step) {
      let end = min(start + step, pages.upperBound)
      try reader.read(start..<end)
      let wanted = range.clamped(to: start..<end)
      try unsafe reader.withBytes { bytes in
        try unsafe body(
          UnsafeRawBufferPointer(rebasing: bytes[(wanted.lowerBound - start)..<(wanted.upperBound - start)]),
          wanted.lowerBound)
      }
    }
  }
}

extension RegionCore {
  /// One byte for each page of a range: 1 where there is something in it, which may be poison, 0 where there is nothing.
  fileprivate func notePages(_ part: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno? {
    if let twin {
      unsafe twin.note(part, in: notes)
      return nil
    }
    return unsafe KernelErrno(returned: cuffd_page_states(UInt64(part.start), part.byteCount, notes))
  }
}

/// Copies pages of a region into a buffer of its own.
@safe
private struct PieceReader: ~Copyable {
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

  func withBytes(_ body: (UnsafeRawBufferPointer) throws -> Void) throws {
    try unsafe body(UnsafeRawBufferPointer(buffer))
  }

  /// Fills the buffer with what belongs at these offsets.
  mutating func read(_ range: Range<Int>) throws(FaultRuntimeError) {
    let core = region.core
    let pageSize = region.pageSize
    let count = range.count / pageSize
    let address = core.range.start &+ UInt(bitPattern: range.lowerBound)
    let result = unsafe states.withUnsafeMutableBufferPointer { states in
      unsafe core.notePages(AddressRange(start: address, byteCount: range.count), in: states.baseAddress!)
    }
    if let errno = result {
      throw .pageFailed(core.failure(ResolutionError.refused(errno), atPage: address))
    }
    for offset in core.failures.offsets(in: range)
    where states[(offset - range.lowerBound) / pageSize] == State.something {
      if !core.isThere(core.range.start &+ UInt(bitPattern: offset)) {
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

  /// What is known of a page: the first two by `RegionCore.notePages`.
  private enum State {
    static let nothing: UInt8 = 0
    static let something: UInt8 = 1
    static let copied: UInt8 = 2
  }

  /// A poisoned page looks like one that came in the end and was swapped out. The kernel can read the one and not the other.
  private func copyUnlessPoisoned(_ offset: Int, _ place: Int) -> UInt8 {
    let source = unsafe UnsafeRawPointer(bitPattern: region.core.range.start &+ UInt(bitPattern: offset))!
    let result = unsafe cuffd_try_copy(buffer.baseAddress! + place, source, region.pageSize)
    return result == 0 ? State.copied : State.nothing
  }

  private func copy(_ range: Range<Int>, _ page: Int, _ end: Int) throws(FaultRuntimeError) {
    let part = (page * region.pageSize)..<(end * region.pageSize)
    // What is there may be gone by now, and what was swapped out may have failed: the checked way.
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
        guard error.code == .pageFailed, part.count > region.pageSize, !error.isDeadline else { throw error }
        // One of the pages is to blame, or the provider answers less at a time.
        for page in stride(from: part.lowerBound, to: part.upperBound, by: region.pageSize) {
          try ask(range, page..<(page + region.pageSize))
        }
      }
    }
  }

  /// One request.
  private func ask(_ range: Range<Int>, _ part: Range<Int>) throws(FaultRuntimeError) {
    let core = region.core
    let job = unsafe PeekJob(
      core, (range.lowerBound + part.lowerBound)..<(range.lowerBound + part.upperBound),
      into: UnsafeMutableRawBufferPointer(rebasing: buffer[part]))
    let hasAnswered = try region.server.peek(job)
    if core.isClosing { throw .regionClosed(core) }
    let cause =
      hasAnswered
      ? job.failure : ResolutionError.deadlineExceeded(.nanoseconds(Int64(clamping: core.deadline)))
    if let cause {
      throw .pageFailed(core.failure(cause, atPage: core.range.start &+ UInt(bitPattern: job.range.lowerBound)))
    }
  }
}

extension FaultRuntimeError {
  /// Asking for less would take as long again.
  fileprivate var isDeadline: Bool {
    if case .deadlineExceeded? = failure?.cause as? ResolutionError { true } else { false }
  }
}
