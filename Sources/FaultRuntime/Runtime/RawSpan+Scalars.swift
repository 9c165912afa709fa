/// Reads from the spans that ``LazyRegion/withBytes(_:)`` and similar methods pass to their closures, without
/// `unsafe`.
extension RawSpan {
  /// Returns the value whose bytes begin at `offset`, which need not be aligned.
  ///
  /// The method traps where the value is not wholly within the span. In the bytes of a lazy region, it blocks and
  /// fails as ``LazyRegion/load(fromByteOffset:as:)`` does.
  ///
  /// - Parameters:
  ///   - offset: where the value begins, in bytes from the start of the span.
  ///   - type: the type of the value.
  /// - Returns: The value, in the byte order of the machine.
  @inlinable
  public func load<Value: RegionScalar>(fromByteOffset offset: Int, as type: Value.Type) -> Value {
    precondition(
      offset >= 0 && offset <= byteCount - MemoryLayout<Value>.size, "RawSpan: a value that is not within the span")
    return unsafe unsafeLoadUnaligned(fromUncheckedByteOffset: offset, as: type)
  }
}

extension MutableRawSpan {
  /// Returns the value whose bytes begin at `offset`, which need not be aligned.
  ///
  /// The method traps where the value is not wholly within the span. In the bytes of a lazy region, it blocks and
  /// fails as ``LazyRegion/load(fromByteOffset:as:)`` does.
  ///
  /// - Parameters:
  ///   - offset: where the value begins, in bytes from the start of the span.
  ///   - type: the type of the value.
  /// - Returns: The value, in the byte order of the machine.
  @inlinable
  public func load<Value: RegionScalar>(fromByteOffset offset: Int, as type: Value.Type) -> Value {
    bytes.load(fromByteOffset: offset, as: type)
  }
}
