internal import CUFFD

extension FaultRun {
  /// Asks the provider for the run, and checks and completes its answer. Every delivery asks in this way.
  ///
  /// - Parameters:
  ///   - lastWanted: the offset of the last page that a thread waits for. An answer that leaves it out is too short.
  ///   - isWrite: whether the fault was a write: the only fault of the run, or the first one if the run was widened.
  ///   - stage: memory for the answer, as long as the run.
  ///   - isForbidden: whether memory must not be lent, because copying from it would wait for the copying thread.
  @inline(__always)
  func ask(
    lastWanted: Int, isWrite: Bool, stage: UnsafeMutableRawBufferPointer,
    isForbidden: (AddressRange) -> Bool
  ) throws -> PageAnswer {
    let request = request
    let range = range
    let staged = UnsafeRawPointer(stage.baseAddress!)
    var buffer = unsafe PageBuffer(borrowing: stage.baseAddress!, byteCount: request.byteCount)
    let contents: PageContents
    do {
      let before = cuffd_asking_begin(UInt64(region.range.start))
      defer { cuffd_asking_end(before) }
      contents = try region.provide(request, &buffer)
    }

    switch unsafe contents.source {
    case .filled:
      let usable = try usableByteCount(buffer.count, of: request, lastWanted)
      if unsafe !buffer.isOver(stage.baseAddress!) { unsafe stage.copyMemory(from: buffer) }
      unsafe stage.clear(from: buffer.count, to: usable)
      return unsafe PageAnswer(AnswerPart(range.prefix(usable), .bytes(staged, isStaged: true)))

    case .lent(let bytes):
      let usable = try usableByteCount(bytes.count, of: request, lastWanted)
      let lent = AddressRange(start: UInt(bitPattern: bytes.baseAddress), byteCount: bytes.count)
      if isForbidden(lent) { throw ResolutionError.lentLazyMemory }
      let whole = min(region.pageSize.roundDown(bytes.count), usable)
      let wholePart = unsafe AnswerPart(range.prefix(whole), .bytes(bytes.baseAddress!, isStaged: false))
      guard whole < usable else { return unsafe PageAnswer(wholePart) }
      // These bytes go to the last page of the region, which they do not fill completely.
      let tail = unsafe UnsafeRawBufferPointer(rebasing: bytes[whole...])
      if unsafe cuffd_copy_if_readable(stage.baseAddress!, tail.baseAddress!, tail.count) < 0 {
        throw ResolutionError.refused(.badAddress)
      }
      unsafe stage.clear(from: tail.count, to: usable - whole)
      let tailPart = unsafe AnswerPart(
        range.dropping(whole).prefix(usable - whole), .bytes(staged, isStaged: true))
      return unsafe whole == 0 ? PageAnswer(tailPart) : PageAnswer(wholePart, tailPart)

    case .zero:
      guard isWrite, isOnePage || isWidened else { return unsafe PageAnswer(AnswerPart(range, .zeros)) }
      // A write to the shared zero page would copy it at once, so a page of its own is cheaper.
      unsafe stage.clear(from: 0, to: range.byteCount)
      return unsafe PageAnswer(AnswerPart(range, .bytes(staged, isStaged: true)))
    }
  }

  /// Returns how many bytes of the run an answer of `produced` bytes fills, in whole pages.
  @inline(__always)
  private func usableByteCount(
    _ produced: Int, of request: PageRequest, _ lastWanted: Int
  ) throws(ResolutionError) -> Int {
    if produced == request.byteCount { return end - start }
    if produced > request.byteCount { throw .answerTooLong(produced: produced, wanted: request.byteCount) }
    let usable = region.pageSize.roundDown(produced)
    if lastWanted >= start + usable { throw .answerTooShort(produced: produced, wanted: request.byteCount) }
    shrinkNext(at: start + usable)
    return usable
  }
}

extension UnsafeMutableRawBufferPointer {
  /// Copies the bytes of a provider that has replaced the buffer that it was given with a buffer of its own.
  @inline(never)
  fileprivate func copyMemory(from buffer: borrowing PageBuffer) {
    unsafe buffer.bytes.withUnsafeBytes { bytes in unsafe copyMemory(from: bytes) }
  }

  @inline(__always)
  fileprivate func clear(from start: Int, to end: Int) {
    guard start < end else { return }
    _ = unsafe UnsafeMutableRawBufferPointer(rebasing: self[start..<end]).initializeMemory(as: UInt8.self, repeating: 0)
  }
}
