/// A provider of bytes that are already in memory. It lends them to the region, which copies each page once.
///
/// ```swift
/// let region = try runtime.map(MemoryProvider(copying: [1, 2, 3]))
/// let second = region.load(fromByteOffset: 1, as: UInt8.self)   // 2
/// ```
///
/// Any thread may use the provider, and several threads may ask it at the same time.
@safe
// Safe to share: nothing writes to the memory after `init`.
public final class MemoryProvider: SizedPageProvider, @unchecked Sendable {
  private let bytes: UnsafeRawBufferPointer
  private let isOwned: Bool

  /// Makes a provider of a copy of `bytes`.
  ///
  /// - Complexity: O(*n*), where *n* is the number of bytes.
  public init(copying bytes: RawSpan) {
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.byteCount, alignment: 64)
    unsafe bytes.withUnsafeBytes { source in unsafe copy.copyMemory(from: source) }
    unsafe self.bytes = UnsafeRawBufferPointer(copy)
    isOwned = true
  }

  /// Makes a provider of a copy of `bytes`.
  ///
  /// - Complexity: O(*n*), where *n* is the number of bytes.
  public convenience init(copying bytes: [UInt8]) {
    unsafe self.init(copying: bytes.span.bytes)
  }

  /// Makes a provider that lends `bytes` and does not copy them.
  ///
  /// - Parameter bytes: the memory to lend. It has to stay valid and unchanged as long as a region over this provider
  ///   is open. It must not be lazy memory of the same runtime.
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

  /// One page for a fault, and up to 256 KiB while accesses run on.
  public var requestSize: RequestSize { RequestSize(preferred: 1, largest: 256 << 10) }

  /// All permissions, ``ProviderPermissions/inMemory``: to lend bytes takes only a little arithmetic.
  public var permissions: ProviderPermissions { .inMemory }

  /// Lends the bytes of a request. The answer has fewer bytes than the request if the memory ends before the request
  /// does. The offset need not be a multiple of the page size. O(1).
  ///
  /// - Parameters:
  ///   - request: the bytes to lend.
  ///   - page: the buffer, which stays empty.
  /// - Returns: an answer that lends the bytes.
  /// - Throws: ``OutOfBounds`` if the memory has no bytes at the offset.
  public func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    let available = unsafe bytes.count
    guard request.offset < available else {
      throw OutOfBounds(offset: request.offset, available: available)
    }
    let end = min(request.offset + request.byteCount, available)
    return unsafe .lent(UnsafeRawBufferPointer(rebasing: bytes[request.offset..<end]))
  }

  /// A request for a page beyond the end of the memory. The region was mapped with a length greater than that of the
  /// memory.
  public struct OutOfBounds: Error, Hashable, Sendable, CustomStringConvertible {
    /// The offset of the request, in bytes.
    public var offset: Int
    /// The length of the memory, in bytes.
    public var available: Int

    /// One line with both numbers.
    public var description: String { "offset \(offset) is behind the end of the memory, which has \(available) bytes" }
  }
}
