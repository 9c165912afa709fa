/// A provider's answer: where the bytes of a request are.
///
/// A provider returns ``filled``, ``lent(_:)`` or ``zero``:
///
/// ```swift
/// func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
///   if isHole(request.range) { return .zero }
///   page.append(bytes[request.range])
///   return .filled
/// }
/// ```
@safe
public struct PageContents: Sendable {
  @unsafe
  // Safe to send: the provider promises that the memory of `lent` stays valid and unchanged, on whatever thread.
  enum Source: @unchecked Sendable {
    case filled
    case lent(UnsafeRawBufferPointer)
    case zero
  }

  let source: Source

  /// The bytes are in the buffer, as many as were appended to it.
  public static let filled = unsafe PageContents(source: .filled)

  /// Every byte of the request is zero.
  public static let zero = unsafe PageContents(source: .zero)

  /// The bytes are in memory of the provider. They go from there directly into the region.
  ///
  /// - Parameter bytes: at most as many bytes as the request wants, with any alignment. They have to stay valid and
  ///   unchanged until the next request on the same thread, or until the region is closed. They must not be lazy
  ///   memory of the same runtime. If the copy could wait for its own thread, the runtime refuses the answer with a
  ///   ``ResolutionError`` of the code `lentLazyMemory`; otherwise the copy of a page that is not resident can fail
  ///   with the code `refused` (`EFAULT`).
  @unsafe
  public static func lent(_ bytes: UnsafeRawBufferPointer) -> PageContents {
    unsafe PageContents(source: .lent(bytes))
  }

  /// The kind of an answer. Later versions may add more kinds.
  public struct Kind: Hashable, Sendable, CustomStringConvertible {
    private let name: String

    /// The provider filled the buffer.
    public static let filled = Kind(name: "filled")
    /// The provider lent memory of its own.
    public static let lent = Kind(name: "lent")
    /// The provider said that all bytes are zero.
    public static let zero = Kind(name: "zero")

    /// The name of the kind.
    public var description: String { name }
  }

  /// The kind of this answer.
  public var kind: Kind {
    switch unsafe source {
    case .filled: .filled
    case .lent: .lent
    case .zero: .zero
    }
  }

  /// Calls `body` with the bytes of this answer, of any kind. This is for tests of providers: it shows a single
  /// answer as the provider gave it, which may be shorter than the request.
  ///
  /// ```swift
  /// var page = PageBuffer(byteCount: 8192)
  /// let contents = try provider.page(PageRequest(offset: 0, byteCount: 8192), into: &page)
  /// #expect(contents.kind == .filled)
  /// #expect(contents.withBytes(in: page) { $0.byteCount } == 4096)
  /// ```
  ///
  /// Allocates if the answer is ``zero``. Lent memory is not copied, so call this function before the provider is
  /// asked again.
  ///
  /// - Parameters:
  ///   - page: the buffer that the provider received. Its capacity has to be the number of bytes in the request.
  ///   - body: receives the bytes, which are valid only during the call.
  /// - Throws: what `body` throws, and nothing else.
  public func withBytes<Result, Failure: Error>(
    in page: borrowing PageBuffer, _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    switch unsafe source {
    case .filled:
      return try body(page.bytes)
    case .lent(let bytes):
      return try body(unsafe bytes.bytes)
    case .zero:
      var zeros = PageBuffer(byteCount: page.capacity)
      zeros.append(repeating: 0, count: page.capacity)
      return try body(zeros.bytes)
    }
  }
}
