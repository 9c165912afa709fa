/// Access that cannot fault. The pages are brought first, and a page that cannot be produced is an error instead of a
/// signal.
extension LazyRegion {
  /// Makes the pages that hold `range` resident, and calls `body` with the bytes. No access to them faults while
  /// `body` runs.
  ///
  /// ```swift
  /// let magic = try region.withResident(0..<4) { bytes in bytes.load(fromByteOffset: 0, as: UInt32.self) }
  /// ```
  ///
  /// While `body` runs, the runtime takes none of these pages away. ``close()`` waits for `body`, but no longer than
  /// ``FaultRuntimeConfiguration/closeTimeout``; after that it takes the memory away all the same. The runtime does
  /// not protect `body` from a program that discards or unmaps pages itself (`MADV_DONTNEED`, `munmap`).
  ///
  /// The method blocks as ``prefetch(_:)`` does, and may be called from the same threads. It takes a lock before and
  /// after `body`. Several threads may be inside `body` at the same time, for the same pages too. A `body` that calls
  /// `close()` waits for itself until the timeout. From the moment that `close()` is called, this method throws
  /// `regionClosed` on every thread, even inside `body`.
  ///
  /// - Parameters:
  ///   - range: offsets in bytes, within `0..<byteCount`.
  ///   - body: receives the bytes of the range. It throws nothing, or ``FaultRuntimeError``. The span is valid during
  ///     the call only.
  /// - Returns: What `body` returns.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`, for the reasons that ``prefetch(_:)`` names; or what `body` throws.
  public func withResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (RawSpan) throws(FaultRuntimeError) -> Result
  ) throws(FaultRuntimeError) -> Result {
    return try withoutCancellation { () throws(FaultRuntimeError) -> Result in
      let bytes = try unsafe pinned(range)
      defer { core.pins.unpin(range) }
      return try body(unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(bytes)))
    }
  }

  /// Does the same as the other `withResident(_:_:)`, for a `body` that throws any error.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`; or what `body` throws.
  public func withResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (RawSpan) throws -> Result
  ) throws -> Result {
    return try withoutCancellation { () throws -> Result in
      let bytes = try unsafe pinned(range)
      defer { core.pins.unpin(range) }
      return try body(unsafe RawSpan(_unsafeBytes: UnsafeRawBufferPointer(bytes)))
    }
  }

  /// Makes the pages that hold `range` resident, and calls `body` with the bytes, for reading and writing. Otherwise
  /// it does the same as `withResident(_:_:)`.
  ///
  /// Several threads may be inside `body` at the same time. The program must see to it that no thread uses bytes
  /// while another one writes them.
  ///
  /// The method traps where the region was mapped read-only.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`; or what `body` throws.
  public func withMutableResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (inout MutableRawSpan) throws(FaultRuntimeError) -> Result
  ) throws(FaultRuntimeError) -> Result {
    requireWritable()
    return try withoutCancellation { () throws(FaultRuntimeError) -> Result in
      let memory = try unsafe pinned(range)
      defer { core.pins.unpin(range) }
      var bytes = unsafe MutableRawSpan(_unsafeBytes: memory)
      return try body(&bytes)
    }
  }

  /// Does the same as the other `withMutableResident(_:_:)`, for a `body` that throws any error.
  ///
  /// The method traps where the region was mapped read-only.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`; or what `body` throws.
  public func withMutableResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (inout MutableRawSpan) throws -> Result
  ) throws -> Result {
    requireWritable()
    return try withoutCancellation { () throws -> Result in
      let memory = try unsafe pinned(range)
      defer { core.pins.unpin(range) }
      var bytes = unsafe MutableRawSpan(_unsafeBytes: memory)
      return try body(&bytes)
    }
  }

  // MARK: Pointers

  /// Does the same as `withResident(_:_:)`, with a pointer. The pointer can be passed to `read(2)`, `write(2)`,
  /// `io_uring` and the like, whether or not the runtime serves system calls.
  ///
  /// - Parameters:
  ///   - range: offsets in bytes, within `0..<byteCount`.
  ///   - body: receives the bytes of the range. The buffer is valid during the call only.
  /// - Returns: What `body` returns.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`; or what `body` throws.
  @unsafe
  public func withUnsafeResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (UnsafeRawBufferPointer) throws(FaultRuntimeError) -> Result
  ) throws(FaultRuntimeError) -> Result {
    return try withoutCancellation { () throws(FaultRuntimeError) -> Result in
      let bytes = try unsafe pinned(range)
      defer { core.pins.unpin(range) }
      return try unsafe body(UnsafeRawBufferPointer(bytes))
    }
  }

  /// Does the same as the other `withUnsafeResident(_:_:)`, for a `body` that throws any error.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`; or what `body` throws.
  @unsafe
  public func withUnsafeResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (UnsafeRawBufferPointer) throws -> Result
  ) throws -> Result {
    return try withoutCancellation { () throws -> Result in
      let bytes = try unsafe pinned(range)
      defer { core.pins.unpin(range) }
      return try unsafe body(UnsafeRawBufferPointer(bytes))
    }
  }

  /// Does the same as `withUnsafeResident(_:_:)`, for reading and writing.
  ///
  /// The method traps where the region was mapped read-only.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`; or what `body` throws.
  @unsafe
  public func withUnsafeMutableResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (UnsafeMutableRawBufferPointer) throws(FaultRuntimeError) -> Result
  ) throws(FaultRuntimeError) -> Result {
    requireWritable()
    return try withoutCancellation { () throws(FaultRuntimeError) -> Result in
      let bytes = try unsafe pinned(range)
      defer { core.pins.unpin(range) }
      return try unsafe body(bytes)
    }
  }

  /// Does the same as the other `withUnsafeMutableResident(_:_:)`, for a `body` that throws any error.
  ///
  /// The method traps where the region was mapped read-only.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`; or what `body` throws.
  @unsafe
  public func withUnsafeMutableResident<Result: ~Copyable>(
    _ range: Range<Int>, _ body: (UnsafeMutableRawBufferPointer) throws -> Result
  ) throws -> Result {
    requireWritable()
    return try withoutCancellation { () throws -> Result in
      let bytes = try unsafe pinned(range)
      defer { core.pins.unpin(range) }
      return try unsafe body(bytes)
    }
  }

  /// Pins a range, makes its pages resident and returns its bytes. The same thread has to call
  /// `core.pins.unpin(range)` when it no longer uses them.
  func pinned(_ range: Range<Int>) throws(FaultRuntimeError) -> UnsafeMutableRawBufferPointer {
    // In a forked child the lock may be held for ever, by a thread that exists in the parent only.
    guard core.isInOwnerProcess else { throw .forkedChild() }
    // The pin comes before the pages are brought. Closing then either waits for this pin, or has begun before, and
    // the pin is refused or `prefetch` throws.
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
