/// Access that cannot fault: pages are brought first, and what cannot be had is an error instead of a signal.
extension LazyRegion {
  /// Makes the pages that hold `range` resident, and calls `body` with the bytes, which cannot fault meanwhile.
  ///
  /// Nothing that the runtime does takes the pages away while `body` runs: ``close()`` waits for it, as long as
  /// ``FaultRuntimeConfiguration/closeTimeout``. What the program does to the memory itself (`MADV_DONTNEED`, `munmap`)
  /// is its own business.
  ///
  /// Blocks as ``prefetch(_:)`` does, and may be called from the same threads; takes a lock before and after `body`.
  /// Several threads may do this at a time, for the same pages too. A `close()` from inside `body` waits for nobody but
  /// itself, until its time is up.
  ///
  /// - Parameters:
  ///   - range: offsets in bytes, within `0..<byteCount`.
  ///   - body: gets the bytes of the range; it throws nothing, or ``FaultRuntimeError``. The span is valid during the
  ///     call only.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`, or what `body` throws.
  public func withResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (RawSpan) throws(FaultRuntimeError) -> Result
  ) throws(FaultRuntimeError) -> Result {
    let bytes = try unsafe pinned(range)
    defer { core.pins.unpin(range) }
    return try body(unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(bytes)))
  }

  /// As the other `withResident(_:_:)`, for a `body` that throws anything.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`, or what `body` throws.
  public func withResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (RawSpan) throws -> Result
  ) throws -> Result {
    let bytes = try unsafe pinned(range)
    defer { core.pins.unpin(range) }
    return try body(unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(bytes)))
  }

  /// As `withResident(_:_:)`, for writing as well.
  ///
  /// Several threads may be in here at a time. The program sees to it that no two of them use the same bytes while one
  /// of them writes.
  ///
  /// Traps where the region was mapped read-only.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`, or what `body` throws.
  public func withMutableResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (inout MutableRawSpan) throws(FaultRuntimeError) -> Result
  ) throws(FaultRuntimeError) -> Result {
    requireWritable()
    let memory = try unsafe pinned(range)
    defer { core.pins.unpin(range) }
    var bytes = unsafe MutableRawSpan(_unsafeBytes: memory)
    return try body(&bytes)
  }

  /// As the other `withMutableResident(_:_:)`, for a `body` that throws anything.
  ///
  /// Traps where the region was mapped read-only.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`, or what `body` throws.
  public func withMutableResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (inout MutableRawSpan) throws -> Result
  ) throws -> Result {
    requireWritable()
    let memory = try unsafe pinned(range)
    defer { core.pins.unpin(range) }
    var bytes = unsafe MutableRawSpan(_unsafeBytes: memory)
    return try body(&bytes)
  }

  // MARK: Pointers

  /// As `withResident(_:_:)`, with a pointer: safe to hand to `read(2)`, `write(2)`, `io_uring` and the like, whether
  /// or not system calls are served.
  ///
  /// - Parameters:
  ///   - range: offsets in bytes, within `0..<byteCount`.
  ///   - body: gets the bytes of the range. The buffer is valid during the call only.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`, or what `body` throws.
  @unsafe
  public func withUnsafeResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (UnsafeRawBufferPointer) throws(FaultRuntimeError) -> Result
  ) throws(FaultRuntimeError) -> Result {
    let bytes = try unsafe pinned(range)
    defer { core.pins.unpin(range) }
    return try unsafe body(UnsafeRawBufferPointer(bytes))
  }

  /// As the other `withUnsafeResident(_:_:)`, for a `body` that throws anything.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`, or what `body` throws.
  @unsafe
  public func withUnsafeResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) throws -> Result {
    let bytes = try unsafe pinned(range)
    defer { core.pins.unpin(range) }
    return try unsafe body(UnsafeRawBufferPointer(bytes))
  }

  /// As `withUnsafeResident(_:_:)`, for writing as well.
  ///
  /// Traps where the region was mapped read-only.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`, or what `body` throws.
  @unsafe
  public func withUnsafeMutableResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (UnsafeMutableRawBufferPointer) throws(FaultRuntimeError) -> Result
  ) throws(FaultRuntimeError) -> Result {
    requireWritable()
    let bytes = try unsafe pinned(range)
    defer { core.pins.unpin(range) }
    return try unsafe body(bytes)
  }

  /// As the other `withUnsafeMutableResident(_:_:)`, for a `body` that throws anything.
  ///
  /// Traps where the region was mapped read-only.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`, or what `body` throws.
  @unsafe
  public func withUnsafeMutableResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (UnsafeMutableRawBufferPointer) throws -> Result
  ) throws -> Result {
    requireWritable()
    let bytes = try unsafe pinned(range)
    defer { core.pins.unpin(range) }
    return try unsafe body(bytes)
  }

  /// The bytes of a range, resident, until `core.pins.unpin(range)` is called for them.
  func pinned(_ range: Range<Int>) throws(FaultRuntimeError) -> UnsafeMutableRawBufferPointer {
    // The lock may be one that a thread of the parent held.
    guard core.isInOwnerProcess else { throw .forkedChild() }
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
}
