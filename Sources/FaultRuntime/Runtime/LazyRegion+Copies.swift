/// Copies. A page that cannot be produced is an error instead of a signal.
extension LazyRegion {
  /// Copies bytes from the region into `buffer`, making their pages resident.
  ///
  /// The method blocks as ``prefetch(_:)`` does, and may be called from the same threads. It takes locks for each
  /// MiB.
  ///
  /// - Parameters:
  ///   - buffer: receives as many bytes as it has room for.
  ///   - offset: where the bytes begin, in bytes from the start of the region.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`, for the reasons that ``prefetch(_:)`` names. The method copies in
  ///   steps of 1 MiB. If one fails, the buffer has the bytes of the steps before that one.
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

  /// Returns the bytes of a range in a new array. Otherwise it does the same as
  /// ``read(into:at:)-(MutableRawSpan,_)``.
  ///
  /// - Parameter range: offsets in bytes, within `0..<byteCount`.
  /// - Returns: A copy of the bytes.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`.
  public func read(_ range: Range<Int>) throws(FaultRuntimeError) -> [UInt8] {
    guard range.lowerBound >= 0, range.upperBound <= byteCount else { throw .rangeOutOfBounds(core, range) }
    return try copies(of: range, as: UInt8.self)
  }

  /// Returns the values of a range in a new array. They need not be aligned in the region. Otherwise it does the same
  /// as ``read(into:at:)-(MutableRawSpan,_)``.
  ///
  /// ```swift
  /// let row = try matrix.read(0..<4096, as: Float.self)  // 1024 values
  /// ```
  ///
  /// - Parameters:
  ///   - range: offsets in bytes, within `0..<byteCount`. The method traps where the range does not hold a whole
  ///     number of values.
  ///   - type: the type of the values.
  /// - Returns: A copy of the values, in the byte order of the machine.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`.
  public func read<Value: RegionScalar>(
    _ range: Range<Int>, as type: Value.Type
  ) throws(FaultRuntimeError) -> [Value] {
    guard range.lowerBound >= 0, range.upperBound <= byteCount else { throw .rangeOutOfBounds(core, range) }
    precondition(
      range.count.isMultiple(of: MemoryLayout<Value>.stride),
      "LazyRegion.read: \(range.count) bytes are no whole number of \(Value.self)")
    return try copies(of: range, as: type)
  }

  private func copies<Value: RegionScalar>(
    of range: Range<Int>, as type: Value.Type
  ) throws(FaultRuntimeError) -> [Value] {
    let capacity = range.count / MemoryLayout<Value>.stride
    return try withoutCancellation { () throws(FaultRuntimeError) in
      // The array is allocated, and freed where the copy fails, while signals are held.
      try holdingSignals { signals throws(FaultRuntimeError) in
        var failure: FaultRuntimeError?
        let values = unsafe [Value](unsafeUninitializedCapacity: capacity) { buffer, count in
          let bytes = unsafe UnsafeMutableRawBufferPointer(buffer)[..<range.count]
          signals.pause {
            do throws(FaultRuntimeError) {
              try unsafe read(into: UnsafeMutableRawBufferPointer(rebasing: bytes), at: range.lowerBound)
            } catch {
              failure = error
            }
          }
          if failure == nil { count = capacity }
        }
        if let failure { throw failure }
        return values
      }
    }
  }

  /// Copies bytes from the region into memory behind a pointer. Otherwise it does the same as
  /// ``read(into:at:)-(MutableRawSpan,_)``.
  ///
  /// The buffer must not be lazy memory whose faults the calling thread serves.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`.
  @unsafe
  public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int = 0) throws(FaultRuntimeError) {
    try withoutCancellation { () throws(FaultRuntimeError) in
      for piece in try pieces(buffer.count, from: offset) {
        let bytes = try unsafe pinned(piece)
        defer { core.pins.unpin(piece) }
        unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[(piece.lowerBound - offset)...]).copyMemory(
          from: UnsafeRawBufferPointer(bytes))
      }
    }
  }

  /// Copies bytes into the region, making their pages resident. The provider is asked for a missing page even where
  /// all of the page is overwritten.
  ///
  /// The method blocks as ``prefetch(_:)`` does, and may be called from the same threads. It takes locks for each
  /// MiB. It traps where the region was mapped read-only.
  ///
  /// - Parameters:
  ///   - bytes: the bytes to write.
  ///   - offset: where they go, in bytes from the start of the region.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`, for the reasons that ``prefetch(_:)`` names. The method copies in
  ///   steps of 1 MiB. If one fails, the region has the bytes of the steps before that one.
  public func write(_ bytes: RawSpan, at offset: Int = 0) throws(FaultRuntimeError) {
    requireWritable()
    try withoutCancellation { () throws(FaultRuntimeError) in
      for piece in try pieces(bytes.byteCount, from: offset) {
        let part = bytes.extracting((piece.lowerBound - offset)..<(piece.upperBound - offset))
        let memory = try unsafe pinned(piece)
        defer { core.pins.unpin(piece) }
        unsafe part.withUnsafeBytes { unsafe memory.copyMemory(from: $0) }
      }
    }
  }

  /// Copies the bytes of an array into the region. Otherwise it does the same as ``write(_:at:)-(RawSpan,_)``.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`.
  public func write(_ bytes: [UInt8], at offset: Int = 0) throws(FaultRuntimeError) {
    try unsafe write(bytes.span.bytes, at: offset)
  }

  /// Copies an array of values into the region. They need not be aligned there. Otherwise it does the same as
  /// ``write(_:at:)-(RawSpan,_)``.
  ///
  /// ```swift
  /// try matrix.write([1.5, 2.5], as: Float.self, at: 4096)
  /// ```
  ///
  /// - Parameters:
  ///   - values: the values to write, in the byte order of the machine.
  ///   - type: the type of the values, which says how many bytes each one takes.
  ///   - offset: where the first one goes, in bytes from the start of the region.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`.
  public func write<Value: RegionScalar>(
    _ values: [Value], as type: Value.Type, at offset: Int = 0
  ) throws(FaultRuntimeError) {
    try unsafe write(values.span.bytes, at: offset)
  }

  /// Returns `byteCount` bytes from `offset` on in steps, which bound how much is prefetched before the first byte is
  /// copied.
  private func pieces(_ byteCount: Int, from offset: Int) throws(FaultRuntimeError) -> CopySteps {
    let (end, overflows) = offset.addingReportingOverflow(byteCount)
    guard offset >= 0, !overflows, end <= self.byteCount else {
      throw .rangeOutOfBounds(core, min(offset, 0)..<max(offset, overflows ? .max : end, 0))
    }
    return CopySteps(start: offset, end: end)
  }

  /// Copies whole pages. The bytes behind the exact end of the region are zero in the buffer.
  func copyPages(_ offset: Int, into buffer: UnsafeMutableRawBufferPointer) throws(FaultRuntimeError) {
    unsafe buffer.initializeMemory(as: UInt8.self, repeating: 0)
    let count = min(buffer.count, byteCount - offset)
    try unsafe read(into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<count]), at: offset)
  }
}

/// The steps in which a range is copied. The sequence allocates nothing.
private struct CopySteps: Sequence, IteratorProtocol {
  private static let byteCount = 1 << 20

  var start: Int
  let end: Int

  mutating func next() -> Range<Int>? {
    guard start < end else { return nil }
    let step = start..<(start + Swift.min(Self.byteCount, end - start))
    start = step.upperBound
    return step
  }
}
