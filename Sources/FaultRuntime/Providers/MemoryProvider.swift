/// Bytes that are already in memory, lent to the region page by page.
@safe
// Safe to share: the memory is never written after `init`.
public final class MemoryProvider: SizedPageProvider, @unchecked Sendable {
  private let bytes: UnsafeRawBufferPointer
  private let isOwned: Bool

  /// Copies `bytes`, and lends the copy.
  public init(copying bytes: RawSpan) {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.byteCount, alignment: 64)
    unsafe bytes.withUnsafeBytes { source in unsafe copy.copyMemory(from: source) }
    unsafe self.bytes = UnsafeRawBufferPointer(copy)
    isOwned = true
  }

  /// Copies `bytes`, and lends the copy.
  public convenience init(copying bytes: [UInt8]) {
    unsafe self.init(copying: bytes.span.bytes)
  }

  /// Lends `bytes` without copying them.
  ///
  /// - Parameter bytes: memory that stays valid and unchanged for as long as a region over this provider is open, and that
  ///   is not lazy memory of the same runtime.
  @unsafe
  public init(borrowing bytes: UnsafeRawBufferPointer) {
    unsafe self.bytes = bytes
    isOwned = false
  }

  deinit {
    if isOwned { unsafe bytes.deallocate() }
  }

  /// The number of bytes that are lent.
  public var byteCount: Int { unsafe bytes.count }

  /// One page for a fault, up to 256 KiB while accesses run on.
  public var requestSize: RequestSize { RequestSize(preferred: 1, largest: 256 << 10) }

  /// All: lending is arithmetic.
  public var permissions: ProviderPermissions { .inMemory }

  /// Lends the wanted bytes; fewer where the region is longer than this memory. The offset may be any.
  ///
  /// - Throws: ``OutOfBounds`` where there are none.
  public func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    let available = unsafe bytes.count
    guard request.offset < available else {
      throw OutOfBounds(offset: request.offset, available: available)
    }
    let end = min(request.offset + request.byteCount, available)
    return unsafe .lent(UnsafeRawBufferPointer(rebasing: bytes[request.offset..<end]))
  }

  /// A page was asked for that lies behind the end of the memory: the region was mapped longer than that.
  public struct OutOfBounds: Error, Hashable, Sendable, CustomStringConvertible {
    /// The wanted offset, in bytes.
    public var offset: Int
    /// The length of the memory, in bytes.
    public var available: Int

    /// Both numbers, in words.
    public var description: String { "offset \(offset) is behind the end of the memory, which has \(available) bytes" }
  }
}
