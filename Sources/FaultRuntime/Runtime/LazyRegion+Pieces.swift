internal import CUFFD

extension LazyRegion {
  /// Reads a range in pieces through a buffer, and leaves pages that are missing as they are: for data that is passed
  /// on once (`write(2)` to a socket, a checksum, a copy) and should not take memory afterwards.
  ///
  /// Pages that are there are copied, written ones with what was written. For the others the provider is asked, as for
  /// a fault, but its answer goes into the buffer only; nothing keeps it from being asked for the same page by a fault
  /// at that moment. For the other direction, `read(2)` into a buffer and `write(_:at:)`: what is written has to be
  /// resident.
  ///
  /// Blocks as long as the provider takes, at most the region's timeout for each request. Allocates one buffer, and
  /// takes locks. May be called from any thread but those on which ``prefetch(_:)`` is an error.
  ///
  /// - Parameters:
  ///   - range: offsets in bytes, within `0..<byteCount`.
  ///   - pieceByteCount: the most that one piece has; at least 1, or it traps. It is rounded up to whole pages.
  ///   - body: gets each piece in turn, and where it starts in the region; it throws nothing, or ``FaultRuntimeError``.
  ///     The span is valid during the call only. Only the first and the last piece may be shorter.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider`, `pageFailed`, or `cannotMap` where there is no memory for the buffer; or what `body`
  ///   throws.
  public func forEachPiece(
    of range: Range<Int>, byteCount pieceByteCount: Int = 1 << 20,
    _ body: (RawSpan, Int) throws(FaultRuntimeError) -> Void
  ) throws(FaultRuntimeError) {
    guard let pages = try pages(of: range) else { return }
    var pieces = try RegionPieces(self, range, in: pages, pieceByteCount)
    while let piece = try pieces.next() { try body(pieces.bytes(of: piece), piece.lowerBound) }
  }

  /// As the other `forEachPiece(of:byteCount:_:)`, for a `body` that throws anything.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider`, `pageFailed`, or `cannotMap` where there is no memory for the buffer; or what `body`
  ///   throws.
  public func forEachPiece(
    of range: Range<Int>, byteCount pieceByteCount: Int = 1 << 20, _ body: (RawSpan, Int) throws -> Void
  ) throws {
    guard let pages = try pages(of: range) else { return }
    var pieces = try RegionPieces(self, range, in: pages, pieceByteCount)
    while let piece = try pieces.next() { try body(pieces.bytes(of: piece), piece.lowerBound) }
  }

  /// As `forEachPiece(of:byteCount:_:)`, with a pointer, for `write(2)` and the like.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider`, `pageFailed`, or `cannotMap` where there is no memory for the buffer; or what `body`
  ///   throws.
  @unsafe
  public func forEachUnsafePiece(
    of range: Range<Int>, byteCount pieceByteCount: Int = 1 << 20,
    _ body: (UnsafeRawBufferPointer, Int) throws(FaultRuntimeError) -> Void
  ) throws(FaultRuntimeError) {
    guard let pages = try pages(of: range) else { return }
    var pieces = try RegionPieces(self, range, in: pages, pieceByteCount)
    while let piece = try pieces.next() { try unsafe body(pieces.unsafeBytes(of: piece), piece.lowerBound) }
  }

  /// As the other `forEachUnsafePiece(of:byteCount:_:)`, for a `body` that throws anything.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider`, `pageFailed`, or `cannotMap` where there is no memory for the buffer; or what `body`
  ///   throws.
  @unsafe
  public func forEachUnsafePiece(
    of range: Range<Int>, byteCount pieceByteCount: Int = 1 << 20,
    _ body: (UnsafeRawBufferPointer, Int) throws -> Void
  ) throws {
    guard let pages = try pages(of: range) else { return }
    var pieces = try RegionPieces(self, range, in: pages, pieceByteCount)
    while let piece = try pieces.next() { try unsafe body(pieces.unsafeBytes(of: piece), piece.lowerBound) }
  }
}

/// A range of a region, read piece by piece.
private struct RegionPieces: ~Copyable {
  private var reader: PieceReader
  private let range: Range<Int>
  /// The pages that hold the range.
  private let pages: Range<Int>
  private let step: Int
  /// Where the piece in the buffer starts, and the next one.
  private var start: Int
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

  /// Reads the next piece. Its offsets in the region; nil where there is none.
  mutating func next() throws(FaultRuntimeError) -> Range<Int>? {
    guard nextStart < pages.upperBound else { return nil }
    start = nextStart
    nextStart = min(start + step, pages.upperBound)
    try reader.read(start..<nextStart)
    return range.clamped(to: start..<nextStart)
  }

  /// Valid until the next piece is read.
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
