/// Memory that reads as zero until it is written: every page is the kernel's own page of zeros.
public struct ZeroProvider: PageProvider {
  /// Makes a provider of zeros.
  public init() {}

  /// One page for a fault, up to 1 MiB while accesses run on.
  public var requestSize: RequestSize { RequestSize(preferred: 1, largest: 1 << 20) }

  /// All: there is nothing to do.
  public var permissions: ProviderPermissions { .inMemory }

  /// Says that the request is zero.
  public func page(_ request: PageRequest, into page: inout PageBuffer) -> PageContents { .zero }
}

/// A provider made of a closure.
///
/// ```swift
/// let counter = ClosureProvider(permissions: .inMemory) { request, page in
///   page.append(repeating: UInt8(truncatingIfNeeded: request.offset >> 12), count: request.byteCount)
///   return .filled
/// }
/// ```
public struct ClosureProvider: PageProvider {
  /// How many bytes the closure likes to produce at once.
  public let requestSize: RequestSize

  /// What the closure permits.
  public let permissions: ProviderPermissions

  private let body: @Sendable (PageRequest, inout PageBuffer) throws -> PageContents

  /// Makes a provider of a closure.
  ///
  /// - Parameters:
  ///   - requestSize: how many bytes the closure likes to produce at once.
  ///   - permissions: what the closure permits, and promises by that. Unless told, several threads may ask at a time.
  ///   - body: answers a request, as ``PageProvider/page(_:into:)`` does.
  public init(
    requestSize: RequestSize = .standard,
    permissions: ProviderPermissions = .standard,
    _ body: @escaping @Sendable (PageRequest, inout PageBuffer) throws -> PageContents
  ) {
    self.requestSize = requestSize
    self.permissions = permissions
    self.body = body
  }

  /// Calls the closure.
  public func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    try body(request, &page)
  }
}
