/// The bytes of a region that a provider is asked for.
///
/// The runtime makes the requests. Providers that wrap another provider make requests too, and so do tests:
///
/// ```swift
/// let bytes = try provider.bytes(of: PageRequest(offset: 0, byteCount: 4096))
/// ```
public struct PageRequest: Hashable, Sendable {
  /// The offset of the first byte, in bytes from the start of the region. In requests of the runtime it is a multiple
  /// of the page size.
  public let offset: Int

  /// The number of bytes. In requests of the runtime it is a whole number of pages, except at the exact end of the
  /// region.
  public let byteCount: Int

  /// Creates a request for `byteCount` bytes from `offset` on. The values are not checked.
  public init(offset: Int, byteCount: Int) {
    self.offset = offset
    self.byteCount = byteCount
  }

  /// The requested bytes as a range of offsets in the region. Traps if `byteCount` is negative.
  public var range: Range<Int> { offset..<(offset + byteCount) }
}
