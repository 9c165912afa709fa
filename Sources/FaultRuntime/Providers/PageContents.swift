/// Where the bytes of an answer are.
@safe
public struct PageContents: Sendable {
  // Safe to send: the pointer of `lent` is promised to be valid and unchanging wherever it goes.
  @unsafe
  enum Source: @unchecked Sendable {
    case filled
    case lent(UnsafeRawBufferPointer)
    case zero
  }

  let source: Source

  /// The buffer has the bytes: as many as were appended to it.
  public static let filled = unsafe PageContents(source: .filled)

  /// Every byte of the request is zero.
  public static let zero = unsafe PageContents(source: .zero)

  /// The bytes are in memory of the provider's own, and go from there into the region without another copy.
  ///
  /// - Parameter bytes: at most `request.byteCount` bytes, of any alignment. They stay valid and unchanged until the next
  ///   request on the same thread, or until the region is closed; and they are not lazy memory of the same runtime (the
  ///   runtime checks that, and refuses).
  @unsafe
  public static func lent(_ bytes: UnsafeRawBufferPointer) -> PageContents {
    unsafe PageContents(source: .lent(bytes))
  }

  /// A kind of answer. More may be added.
  public struct Kind: Hashable, Sendable, CustomStringConvertible {
    private let name: String

    /// The provider filled the buffer.
    public static let filled = Kind(name: "filled")
    /// The provider lent memory of its own.
    public static let lent = Kind(name: "lent")
    /// The provider said that the bytes are zero.
    public static let zero = Kind(name: "zero")

    /// The name of the kind.
    public var description: String { name }
  }

  /// What kind of answer this is.
  public var kind: Kind {
    switch unsafe source {
    case .filled: .filled
    case .lent: .lent
    case .zero: .zero
    }
  }

  /// Runs `body` with the bytes of this answer, of whatever kind it is. For tests of providers: it shows one answer as the
  /// provider gave it, which may be shorter than the request.
  ///
  /// ```swift
  /// var page = PageBuffer(byteCount: 8192)
  /// let contents = try provider.page(PageRequest(offset: 0, byteCount: 8192), into: &page)
  /// #expect(contents.kind == .filled)
  /// #expect(contents.withBytes(in: page) { $0.byteCount } == 4096)
  /// ```
  ///
  /// Allocates for an answer of zeros. Memory that was lent is read where it is, so call this before anything else asks the
  /// provider.
  ///
  /// - Parameters:
  ///   - page: the buffer that the provider was given, with as many bytes as the request.
  ///   - body: gets the bytes, which are valid during the call only.
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
