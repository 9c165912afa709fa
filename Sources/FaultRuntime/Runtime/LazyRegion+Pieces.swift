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
