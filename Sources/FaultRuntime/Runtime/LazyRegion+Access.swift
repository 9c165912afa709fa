internal import CUFFD

extension LazyRegion {
  /// Makes the pages that hold `range` resident and calls `body` with the bytes, which cannot fault meanwhile: safe to hand to
  /// `read(2)`, `write(2)`, `io_uring` and the like, whether or not system calls are served.
  ///
  /// Nothing that the runtime does takes the pages away while `body` runs: ``close()`` waits for it, as long as
  /// ``FaultRuntimeConfiguration/closeDeadline``. What the program does to the memory itself (`MADV_DONTNEED`, `munmap`) is its
  /// own business.
  ///
  /// Blocks as ``prefetch(_:)`` does. Several threads may do this at a time, for the same pages too. A `close()` from inside
  /// `body` waits for nobody but itself, until its deadline.
  ///
  /// - Parameters:
  ///   - range: offsets in bytes, within `0..<byteCount`.
  ///   - body: gets the bytes of the range. The buffer is valid during the call only.
  /// - Throws: what ``prefetch(_:)`` throws, or what `body` does.
  @unsafe
  public func withResident<Result>(
    _ range: Range<Int>, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) throws -> Result {
    let bytes = try unsafe pinned(range)
    defer { core.pins.unpin(range) }
    return try unsafe body(UnsafeRawBufferPointer(bytes))
  }

  /// As ``withResident(_:_:)``, for writing as well.
  ///
  /// Traps where the region was mapped read-only.
  @unsafe
  public func withMutableResident<Result>(
    _ range: Range<Int>, _ body: (UnsafeMutableRawBufferPointer) throws -> Result
  ) throws -> Result {
    precondition(core.isWritable, "LazyRegion '\(name)' is read-only: map it with RegionOptions(access: .readWrite)")
    let bytes = try unsafe pinned(range)
    defer { core.pins.unpin(range) }
    return try unsafe body(bytes)
  }

  /// The bytes of a range, resident, until `unpin` is called for them.
  private func pinned(_ range: Range<Int>) throws(FaultRuntimeError) -> UnsafeMutableRawBufferPointer {
    // Before the pages are brought: closing then either waits, or has begun and is noticed.
    guard core.pins.pin(range) else { throw .regionClosed(core) }
    do {
      try prefetch(range)
    } catch {
      core.pins.unpin(range)
      throw error
    }
    return unsafe UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(bitPattern: core.range.start &+ UInt(bitPattern: range.lowerBound)),
      count: range.count)
  }

  // MARK: Copies

  /// Copies bytes from the region, making their pages resident; what cannot be had is an error instead of a signal.
  ///
  /// Blocks as ``prefetch(_:)`` does.
  ///
  /// - Parameters:
  ///   - buffer: receives as many bytes as it has.
  ///   - offset: where the bytes start, from the start of the region.
  /// - Throws: what ``prefetch(_:)`` throws. The buffer then has the pages before the one that failed, as far as they go in
  ///   steps of 1 MiB.
  public func read(into buffer: inout MutableRawSpan, at offset: Int = 0) throws(FaultRuntimeError) {
    var failure: FaultRuntimeError?
    unsafe buffer.withUnsafeMutableBytes { bytes in
      do throws(FaultRuntimeError) {
        try unsafe read(into: bytes, at: offset)
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
  }

  /// The bytes of a range, in an array of their own; as `read(into:at:)`.
  public func read(_ range: Range<Int>) throws(FaultRuntimeError) -> [UInt8] {
    guard range.lowerBound >= 0, range.upperBound <= byteCount else { throw .rangeOutOfBounds(core, range) }
    var failure: FaultRuntimeError?
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: range.count) { buffer, count in
      do throws(FaultRuntimeError) {
        try unsafe read(
          into: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[..<range.count]),
          at: range.lowerBound)
        count = range.count
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return bytes
  }

  /// As `read(into:at:)`, into memory behind a pointer, which must not be lazy memory that the caller's thread serves.
  @unsafe
  public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int = 0) throws(FaultRuntimeError) {
    for piece in try pieces(buffer.count, from: offset) {
      let bytes = try unsafe pinned(piece)
      defer { core.pins.unpin(piece) }
      unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[(piece.lowerBound - offset)...]).copyMemory(
        from: UnsafeRawBufferPointer(bytes))
    }
  }

  /// Copies bytes into the region, whose pages become resident: those that are overwritten whole are asked for all the same.
  ///
  /// Blocks as ``prefetch(_:)`` does. Traps where the region was mapped read-only.
  ///
  /// - Parameters:
  ///   - bytes: what to write.
  ///   - offset: where it goes, from the start of the region.
  /// - Throws: as `read(into:at:)` does.
  public func write(_ bytes: RawSpan, at offset: Int = 0) throws(FaultRuntimeError) {
    precondition(core.isWritable, "LazyRegion '\(name)' is read-only: map it with RegionOptions(access: .readWrite)")
    for piece in try pieces(bytes.byteCount, from: offset) {
      let part = bytes.extracting((piece.lowerBound - offset)..<(piece.upperBound - offset))
      let memory = try unsafe pinned(piece)
      defer { core.pins.unpin(piece) }
      unsafe part.withUnsafeBytes { unsafe memory.copyMemory(from: $0) }
    }
  }

  /// As `write(_:at:)`, from an array.
  public func write(_ bytes: [UInt8], at offset: Int = 0) throws(FaultRuntimeError) {
    try unsafe write(bytes.span.bytes, at: offset)
  }

  /// `byteCount` bytes from `offset` on, in steps that bound how much is prefetched before the first byte is copied.
  private func pieces(_ byteCount: Int, from offset: Int) throws(FaultRuntimeError) -> [Range<Int>] {
    let (end, overflows) = offset.addingReportingOverflow(byteCount)
    guard offset >= 0, !overflows, end <= self.byteCount else {
      throw .rangeOutOfBounds(core, min(offset, 0)..<max(offset, overflows ? .max : end, 0))
    }
    return stride(from: offset, to: end, by: Self.copyByteCount).map { $0..<min($0 + Self.copyByteCount, end) }
  }

  private static let copyByteCount = 1 << 20

  /// Copies whole pages, also of the last one behind the exact end of the region.
  func copyPages(_ offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(FaultRuntimeError) {
    unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
    let count = min(buffer.count, byteCount - offset)
    try unsafe read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<count]), at: offset)
  }
}
