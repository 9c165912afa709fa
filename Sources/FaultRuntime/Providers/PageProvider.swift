/// The source of the bytes of a region. The runtime asks the provider what is in a page when a thread touches that
/// page.
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
/// The article <doc:WritingAProvider> explains how to write one.
///
/// ## Threads
///
/// The delivery and the permissions of the provider (``ProviderPermissions``) determine which thread asks:
///
/// - With ``Delivery/eventLoop``, a thread of the runtime's pool asks. If the provider permits
///   ``ProviderPermissions/handlerThread``, and the region has neither a timeout nor retries, a handler thread asks
///   instead. A page that threads touch has one request at a time, however many threads wait for it.
/// - With ``Delivery/sigbus``, the thread that faulted asks, in a signal handler.
/// - With ``Delivery/sigsegv``, the thread that faulted asks if the provider permits that, and otherwise a thread of
///   the runtime's pool.
/// - ``LazyRegion/prefetch(_:)`` and other calls that need pages may ask on the calling thread. A large prefetch may
///   ask on two threads at a time.
///
/// Threads of the runtime have 1 MiB of stack. All signals are blocked on them, except those that faults and program
/// errors raise: SIGBUS, SIGSEGV, SIGILL, SIGFPE and SIGTRAP.
///
/// A provider must not touch lazy memory of the same runtime, because there may be no thread left to serve that
/// fault. It also must not wait for a thread that touches such memory. The one exception: in a signal handler, a
/// provider may touch lazy memory of other regions.
///
/// ## Repeated requests
///
/// If the thread that faulted asks, two threads that touch the same page may both ask for it. The runtime drops the
/// answer that comes second. The runtime may also ask for a page again later: to find out which page an error
/// concerns, because the kernel wanted another try, or because the program has discarded the page. The provider has
/// to give the same answer each time.
public protocol PageProvider: Sendable {
  /// The number of bytes that this provider prefers to produce at once. The runtime asks for it once, when a region
  /// is mapped.
  var requestSize: RequestSize { get }

  /// What the runtime may do with this provider. The runtime asks for the permissions when a region is mapped, so
  /// they must not change.
  var permissions: ProviderPermissions { get }

  /// Produces the bytes of a request.
  ///
  /// - Parameters:
  ///   - request: the bytes that are wanted. The request may span several pages, up to the largest size that
  ///     ``requestSize`` names.
  ///   - page: an empty buffer of `request.byteCount` bytes. A provider fills it for the answer
  ///     ``PageContents/filled``.
  /// - Returns: where the bytes are. An answer may be shorter than the request: the runtime uses its whole pages, and
  ///   asks for the pages that were left out when they are touched. It has to cover the pages that threads wait for.
  ///   The bytes between the exact end of the region and the end of its last page read as zero.
  /// - Throws: any error. If a request that spans pages fails, the runtime asks once more for each page that a thread
  ///   waits for, by itself and whatever the preferred size. A slow failure is thus repeated for each of these pages.
  ///   Pages that fail again are poisoned: an access raises a signal (SIGBUS, or SIGSEGV with ``Delivery/sigsegv``)
  ///   and never reads zeros. A later answer that covers a poisoned page makes it work again.
  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents
}

extension PageProvider {
  /// ``RequestSize/standard``: one page for a fault, and up to 64 KiB while accesses run on.
  public var requestSize: RequestSize { .standard }

  /// ``ProviderPermissions/standard``: several threads may ask at the same time, and each of them may be made to
  /// wait.
  public var permissions: ProviderPermissions { .standard }
}

/// A provider that knows its number of bytes, so that ``FaultRuntime/FaultRuntime/map(_:options:)`` needs no length.
///
/// ```swift
/// struct Ones: SizedPageProvider {
///   let byteCount: Int
///
///   func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
///     page.append(repeating: 1, count: request.byteCount)
///     return .filled
///   }
/// }
///
/// let region = try runtime.map(Ones(byteCount: 1 << 30))
/// ```
public protocol SizedPageProvider: PageProvider {
  /// The length of the region that this provider fills, in bytes. It need not be a whole number of pages.
  var byteCount: Int { get }
}

extension PageProvider {
  /// Asks this provider on the calling thread, and calls `body` with all bytes of the request. The answer may be of
  /// any kind. This is for providers that decode the bytes of another provider, and for tests.
  ///
  /// If the provider answers with fewer bytes, it is asked for the rest. The function allocates memory for the bytes,
  /// so a provider that uses it must not permit ``ProviderPermissions/signalHandler``. It blocks as long as the
  /// provider does. Bytes that the provider lends are not copied if one answer lends all of them.
  ///
  /// Traps if `request.byteCount` is negative.
  ///
  /// - Parameters:
  ///   - request: the bytes that are wanted. Most providers expect an offset that is a multiple of the page size.
  ///   - body: receives all bytes of the request. They are valid only during the call, and `body` must not ask the
  ///     same provider.
  /// - Throws: what the provider or `body` throws; ``ResolutionError`` with the code `answerTooLong` if the provider
  ///   lends too many bytes, and with the code `answerTooShort` if it answers with no bytes.
  public func withBytes<Result>(
    of request: PageRequest, _ body: (RawSpan) throws -> Result
  ) throws -> Result {
    var page = PageBuffer(byteCount: request.byteCount)
    let contents = try self.page(request, into: &page)
    if case .lent(let bytes) = unsafe contents.source, bytes.count == request.byteCount {
      return try body(unsafe bytes.bytes)
    }
    try page.take(contents, for: request)
    let rest = PageRequest(offset: request.offset + page.count, byteCount: request.byteCount - page.count)
    if page.freeCapacity < rest.byteCount {
      // The provider has put a smaller buffer in the place of the one that it was given.
      var whole = PageBuffer(byteCount: request.byteCount)
      whole.append(page.bytes)
      page = whole
    }
    try page.append(rest, from: self)
    return try body(page.bytes)
  }

  /// Asks this provider on the calling thread, and returns all bytes of the request. The answer may be of any kind.
  ///
  /// ```swift
  /// #expect(try Squares().bytes(of: PageRequest(offset: 0, byteCount: 4)) == [0, 1, 4, 9])
  /// ```
  ///
  /// This function works like ``withBytes(of:_:)`` and copies the bytes once more.
  ///
  /// Traps if `request.byteCount` is negative.
  ///
  /// - Parameter request: the bytes that are wanted. Most providers expect an offset that is a multiple of the page
  ///   size.
  /// - Throws: what the provider throws; ``ResolutionError`` with the code `answerTooLong` if the provider lends too
  ///   many bytes, and with the code `answerTooShort` if it answers with no bytes.
  public func bytes(of request: PageRequest) throws -> [UInt8] {
    try withBytes(of: request) { bytes in
      unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) }
    }
  }
}
