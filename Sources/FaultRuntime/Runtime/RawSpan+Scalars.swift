/// What ``LazyRegion/withBytes(_:)`` and its like hand to their closures, read without `unsafe`.
extension RawSpan {
  /// The value whose bytes begin at `offset`; it need not be aligned. Traps where it is not wholly within the span.
  ///
  /// In the bytes of a lazy region it blocks and fails as ``LazyRegion/load(fromByteOffset:as:)`` does.
  @inlinable
  public func load<Value: RegionScalar>(fromByteOffset offset: Int, as type: Value.Type) -> Value {
    precondition(
      offset >= 0 && offset <= byteCount - MemoryLayout<Value>.size, "RawSpan: a value that is not within the span")
    return unsafe unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: type)
  }
}

extension MutableRawSpan {
  /// The value whose bytes begin at `offset`; it need not be aligned. Traps where it is not wholly within the span.
  ///
  /// In the bytes of a lazy region it blocks and fails as ``LazyRegion/load(fromByteOffset:as:)`` does.
  @inlinable
  public func load<Value: RegionScalar>(fromByteOffset offset: Int, as type: Value.Type) -> Value {
    bytes.load(fromByteOffset: offset, as: type)
  }
}
