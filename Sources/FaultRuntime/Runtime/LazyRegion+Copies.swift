/// Copies: what cannot be had is an error instead of a signal.
extension LazyRegion {
  /// Copies bytes from the region, making their pages resident.
  ///
  /// Blocks as ``prefetch(_:)`` does, and may be called from the same threads. Takes a lock for each MiB.
  ///
  /// - Parameters:
  ///   - buffer: receives as many bytes as it has.
  ///   - offset: where the bytes start, in bytes from the start of the region.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`. The buffer then has the pages before the one that failed, as far as they
  ///   go in steps of 1 MiB.
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

  /// The bytes of a range, in an array of their own; otherwise as ``read(into:at:)-(MutableRawSpan,_)``.
  ///
  /// - Parameter range: offsets in bytes, within `0..<byteCount`.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`.
  public func read(_ range: Range<Int>) throws(FaultRuntimeError) -> [UInt8] {
    guard range.lowerBound >= 0, range.upperBound <= byteCount else { throw .rangeOutOfBounds(core, range) }
    return try copies(of: range, as: UInt8.self)
  }

  /// The values of a range, in an array of their own; otherwise as ``read(into:at:)-(MutableRawSpan,_)``. They need not
  /// be aligned.
  ///
  /// ```swift
  /// let row = try matrix.read(0..<4096, as: Float.self)   // 1024 of them
  /// ```
  ///
  /// - Parameters:
  ///   - range: offsets in bytes, within `0..<byteCount`. Traps where it is not a whole number of values.
  ///   - type: what the bytes are.
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
    var failure: FaultRuntimeError?
    let capacity = range.count / MemoryLayout<Value>.stride
    let values = unsafe [Value](unsafeUninitializedCapacity: capacity) { buffer, count in
      do throws(FaultRuntimeError) {
        try unsafe read(
          into: UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[..<range.count]),
          at: range.lowerBound)
        count = capacity
      } catch {
        failure = error
      }
    }
    if let failure { throw failure }
    return values
  }

  /// As ``read(into:at:)-(MutableRawSpan,_)``, into memory behind a pointer, which must not be lazy memory that the
  /// calling thread serves.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`.
  @unsafe
  public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int = 0) throws(FaultRuntimeError) {
    for piece in try pieces(buffer.count, from: offset) {
      let bytes = try unsafe pinned(piece)
      defer { core.pins.unpin(piece) }
      unsafe UnsafeMutableRawBufferPointer(rebasing: buffer[(piece.lowerBound - offset)...]).copyMemory(
        from: UnsafeRawBufferPointer(bytes))
    }
  }

  /// Copies bytes into the region, whose pages become resident: those that are overwritten whole are asked for all the
  /// same.
  ///
  /// Blocks as ``prefetch(_:)`` does, and may be called from the same threads. Takes a lock for each MiB.
  ///
  /// Traps where the region was mapped read-only.
  ///
  /// - Parameters:
  ///   - bytes: what to write.
  ///   - offset: where it goes, in bytes from the start of the region.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`. The region then has what goes before the page that failed, in steps of 1
  ///   MiB.
  public func write(_ bytes: RawSpan, at offset: Int = 0) throws(FaultRuntimeError) {
    requireWritable()
    for piece in try pieces(bytes.byteCount, from: offset) {
      let part = bytes.extracting((piece.lowerBound - offset)..<(piece.upperBound - offset))
      let memory = try unsafe pinned(piece)
      defer { core.pins.unpin(piece) }
      unsafe part.withUnsafeBytes { unsafe memory.copyMemory(from: $0) }
    }
  }

  /// As ``write(_:at:)-(RawSpan,_)``, from an array.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`.
  public func write(_ bytes: [UInt8], at offset: Int = 0) throws(FaultRuntimeError) {
    try unsafe write(bytes.span.bytes, at: offset)
  }

  /// As ``write(_:at:)-(RawSpan,_)``, from an array of values. They need not be aligned.
  ///
  /// - Parameters:
  ///   - values: what to write.
  ///   - type: what they are, which also says how many bytes each has.
  ///   - offset: where the first one goes, in bytes from the start of the region.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`.
  public func write<Value: RegionScalar>(
    _ values: [Value], as type: Value.Type, at offset: Int = 0
  ) throws(FaultRuntimeError) {
    try unsafe write(values.span.bytes, at: offset)
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
