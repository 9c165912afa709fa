/// The answer to the question that a page fault is: what is in this page?
///
/// ```swift
/// /// Bytes that exist nowhere: each is computed when its page is touched.
/// struct Squares: PageProvider {
///   func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
///     page.append(request.range.lazy.map { UInt8(truncatingIfNeeded: $0 &* $0) })
///     return .filled
///   }
/// }
/// ```
///
/// Which thread asks follows from the delivery and from what the provider permits (``ProviderPermissions``):
///
/// - With ``Delivery/eventLoop`` it is a thread of the runtime's pool or, with ``ProviderPermissions/handlerThread``, a handler
///   thread. For a page that threads touch there is one request at a time, however many of them wait for it.
/// - With ``Delivery/sigbus`` it is the thread that faulted, in a signal handler.
/// - With ``Delivery/sigsegv`` it is the thread that faulted where the provider permits it, and a helper thread of the runtime
///   otherwise.
/// - ``LazyRegion/prefetch(_:)`` and other calls that need pages may ask on the thread that calls them, and a large prefetch on
///   two threads at a time.
///
/// Where the thread that faulted asks, two threads that touch one page may both ask for it; the answer that comes second is
/// dropped. The same page may also be asked for again later: to narrow an error down to one page, because the kernel wanted the
/// resolution tried again, or because the page was dropped. The provider answers alike each time.
///
/// Threads of the runtime have 1 MiB of stack, and every signal blocked but those of their own faults. On any thread, a provider
/// must not touch lazy memory of the same runtime, because nobody may be there to serve that fault, and must not wait for a
/// thread that does. In a signal handler it may touch lazy memory of other regions.
public protocol PageProvider: Sendable {
  /// How many bytes this provider likes to produce at once. Asked once, when a region is mapped.
  var requestSize: RequestSize { get }

  /// What the runtime may do with this provider. It does not change: the runtime asks when a region is mapped.
  var permissions: ProviderPermissions { get }

  /// Produces the bytes of a request.
  ///
  /// - Parameters:
  ///   - request: which bytes. It may span several pages, up to `requestSize.largest`.
  ///   - page: an empty buffer of `request.byteCount` bytes to fill, for the answer `.filled`.
  /// - Returns: where the bytes are. Fewer than asked for is allowed on a page boundary; pages that were left out are
  ///   asked for again when they are touched. What lies behind the exact end of the region reads as zero.
  /// - Throws: any error. Where the request spans pages, the runtime then asks for each page that a thread waits for by
  ///   itself, whatever the preferred size, so a slow failure is repeated for each of them; pages that fail again are
  ///   poisoned: the access gets a signal (SIGBUS, or SIGSEGV with ``Delivery/sigsegv``), never zeros. An answer that covers a
  ///   poisoned page later cures it.
  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents
}

extension PageProvider {
  /// One page for a fault, up to 64 KiB while accesses run on.
  public var requestSize: RequestSize { .standard }

  /// ``ProviderPermissions/standard``: several threads may ask at a time, on threads that may wait.
  public var permissions: ProviderPermissions { .standard }
}

/// A provider that knows how many bytes it has, so that it can be mapped without saying a length.
public protocol SizedPageProvider: PageProvider {
  /// The length of the region that this provider fills, in bytes; any length, not only whole pages.
  var byteCount: Int { get }
}

extension PageProvider {
  /// Asks this provider on the calling thread, and runs `body` with the bytes of its answer, of whatever kind it is: for
  /// providers that decode what another one has, and for tests.
  ///
  /// Where the provider answers with fewer bytes, it is asked for the rest. Allocates memory for the bytes, and blocks as long as
  /// the provider does. Bytes that the provider lends are not copied.
  ///
  /// Traps where `request.byteCount` is negative.
  ///
  /// - Parameters:
  ///   - request: which bytes. Most providers count on an offset that is a multiple of the page size.
  ///   - body: gets all bytes of the request. They are valid during the call only, and the provider must not be asked during it.
  /// - Throws: what the provider or `body` throws; ``ResolutionError/answerTooLong(produced:wanted:)`` where the provider lends
  ///   too much, and ``ResolutionError/answerTooShort(produced:wanted:)`` where it answers with nothing.
  public func withBytes<Result>(
    of request: PageRequest, _ body: (RawSpan) throws -> Result
  ) throws -> Result {
    var page = PageBuffer(byteCount: request.byteCount)
    let contents = try self.page(request, into: &page)
    if case .lent(let bytes) = unsafe contents.source, bytes.count == request.byteCount {
      return try body(unsafe bytes.bytes)
    }
    try page.take(contents, for: request)
    let rest = PageRequest(offset: request.offset + page.count, byteCount: page.freeCapacity)
    try page.append(rest, from: self)
    return try body(page.bytes)
  }

  /// Asks this provider on the calling thread, and returns the bytes of its answer, of whatever kind it is.
  ///
  /// ```swift
  /// #expect(try Squares().bytes(of: PageRequest(offset: 0, byteCount: 4)) == [0, 1, 4, 9])
  /// ```
  ///
  /// As ``withBytes(of:_:)``, with one copy more.
  ///
  /// - Parameter request: which bytes. Most providers count on an offset that is a multiple of the page size.
  /// - Throws: what the provider throws; ``ResolutionError/answerTooLong(produced:wanted:)`` where it lends too much, and
  ///   ``ResolutionError/answerTooShort(produced:wanted:)`` where it answers with nothing.
  public func bytes(of request: PageRequest) throws -> [UInt8] {
    try withBytes(of: request) { bytes in
      unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) }
    }
  }
}
