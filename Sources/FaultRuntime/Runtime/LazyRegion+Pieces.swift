internal import CUFFD

extension LazyRegion {
  /// Reads a range in pieces through a buffer, and leaves missing pages missing. Use it for data that is passed on
  /// once (`write(2)` to a socket, a checksum, a copy) and should not take memory afterwards.
  ///
  /// ```swift
  /// var sum: UInt64 = 0
  /// try region.forEachPiece(of: 0..<region.byteCount) { bytes, _ in
  ///   for index in 0..<bytes.byteCount { sum += UInt64(bytes.load(fromByteOffset: index, as: UInt8.self)) }
  /// }
  /// ```
  ///
  /// Pages that are resident are copied, with what the program has written to them. For each missing page the
  /// provider is asked as for a fault, but its answer goes into the buffer only. If another thread touches the page
  /// at that moment, the provider is asked twice. There is no counterpart for writing, because written pages have to
  /// be resident: call `read(2)` with a buffer of your own, and then ``write(_:at:)-(RawSpan,_)``.
  ///
  /// The method blocks as long as the provider takes, and no longer than the region's timeout for each request, with
  /// the wait for a thread. It allocates one buffer, and takes locks. It may be called from any thread of the program,
  /// but not in a signal handler. From a provider or a hook, it is an error on the region's handler thread, and on a
  /// thread of the pool (with `sigsegv`, only where the pool would have to do the work). Where the region's provider
  /// would have to be asked from inside a call of its own, it is an error on every thread.
  ///
  /// - Parameters:
  ///   - range: offsets in bytes, within `0..<byteCount`. An empty range does nothing.
  ///   - pieceByteCount: the largest number of bytes in one piece. It is rounded up to whole pages. The method traps
  ///     where it is less than 1.
  ///   - body: receives each piece in turn, and the offset in the region where the piece begins. It throws nothing,
  ///     or ``FaultRuntimeError``. The span is valid during the call only. Only the first and the last piece may be
  ///     shorter than the others.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`, for the reasons that ``prefetch(_:)`` names; with the code `cannotMap`
  ///   where there is no memory for the buffer; or what `body` throws.
  public func forEachPiece(
    of range: Range<Int>, byteCount pieceByteCount: Int = 1 << 20,
    _ body: (RawSpan, Int) throws(FaultRuntimeError) -> Void
  ) throws(FaultRuntimeError) {
    guard let pages = try pages(of: range) else { return }
    try withoutCancellation { () throws(FaultRuntimeError) in
      var pieces = try RegionPieces(self, range, in: pages, pieceByteCount)
      while let piece = try pieces.next() { try body(pieces.bytes(of: piece), piece.lowerBound) }
    }
  }

  /// Does the same as the other `forEachPiece(of:byteCount:_:)`, for a `body` that throws any error.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`; with the code `cannotMap` where there is no memory for the buffer; or
  ///   what `body` throws.
  public func forEachPiece(
    of range: Range<Int>, byteCount pieceByteCount: Int = 1 << 20, _ body: (RawSpan, Int) throws -> Void
  ) throws {
    guard let pages = try pages(of: range) else { return }
    try withoutCancellation { () throws in
      var pieces = try RegionPieces(self, range, in: pages, pieceByteCount)
      while let piece = try pieces.next() { try body(pieces.bytes(of: piece), piece.lowerBound) }
    }
  }

  /// Does the same as `forEachPiece(of:byteCount:_:)`, with a pointer for `write(2)` and the like.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`; with the code `cannotMap` where there is no memory for the buffer; or
  ///   what `body` throws.
  @unsafe
  public func forEachUnsafePiece(
    of range: Range<Int>, byteCount pieceByteCount: Int = 1 << 20,
    _ body: (UnsafeRawBufferPointer, Int) throws(FaultRuntimeError) -> Void
  ) throws(FaultRuntimeError) {
    guard let pages = try pages(of: range) else { return }
    try withoutCancellation { () throws(FaultRuntimeError) in
      var pieces = try RegionPieces(self, range, in: pages, pieceByteCount)
      while let piece = try pieces.next() { try unsafe body(pieces.unsafeBytes(of: piece), piece.lowerBound) }
    }
  }

  /// Does the same as the other `forEachUnsafePiece(of:byteCount:_:)`, for a `body` that throws any error.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`; with the code `cannotMap` where there is no memory for the buffer; or
  ///   what `body` throws.
  @unsafe
  public func forEachUnsafePiece(
    of range: Range<Int>, byteCount pieceByteCount: Int = 1 << 20,
    _ body: (UnsafeRawBufferPointer, Int) throws -> Void
  ) throws {
    guard let pages = try pages(of: range) else { return }
    try withoutCancellation { () throws in
      var pieces = try RegionPieces(self, range, in: pages, pieceByteCount)
      while let piece = try pieces.next() { try unsafe body(pieces.unsafeBytes(of: piece), piece.lowerBound) }
    }
  }
}

/// A range of a region, read piece by piece.
private struct RegionPieces: ~Copyable {
  private var reader: PieceReader
  private let range: Range<Int>
  /// The pages that hold the range.
  private let pages: Range<Int>
  private let step: Int
  /// The offset of the first page that the buffer holds.
  private var start: Int
  /// The offset at which the next piece begins.
  private var nextStart: Int

  init(
    _ region: LazyRegion, _ range: Range<Int>, in pages: Range<Int>, _ pieceByteCount: Int
  ) throws(FaultRuntimeError) {
    precondition(pieceByteCount > 0, "forEachPiece: a piece has at least one byte, got \(pieceByteCount)")
    step = min(region.core.pageSize.roundUp(pieceByteCount) ?? .max, pages.count)
    reader = try PieceReader(region, step)
    self.range = range
    self.pages = pages
    start = pages.lowerBound
    nextStart = start
  }

  /// Reads the next piece into the buffer. Returns its offsets in the region; nil where no piece is left.
  mutating func next() throws(FaultRuntimeError) -> Range<Int>? {
    guard nextStart < pages.upperBound else { return nil }
    start = nextStart
    nextStart = min(start + step, pages.upperBound)
    try reader.read(start..<nextStart)
    return range.clamped(to: start..<nextStart)
  }

  /// Returns the bytes of a piece that ``next()`` returned. They are valid until the next piece is read.
  @unsafe
  func unsafeBytes(of piece: Range<Int>) -> UnsafeRawBufferPointer {
    unsafe reader.unsafeBytes((piece.lowerBound - start)..<(piece.upperBound - start))
  }

  @_lifetime(borrow self)
  func bytes(of piece: Range<Int>) -> RawSpan {
    let bytes = unsafe RawSpan(_unsafeBytes: unsafeBytes(of: piece))
    return unsafe _overrideLifetime(bytes, borrowing: self)
  }
}
