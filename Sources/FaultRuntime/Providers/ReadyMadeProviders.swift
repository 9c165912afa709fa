/// A provider of memory that reads as zero until the program writes to it.
///
/// ```swift
/// let scratch = try runtime.map(ZeroProvider(), byteCount: 1 << 30)
/// ```
///
/// With a userfaultfd, a fault that reads a page maps the kernel's shared page of zeros, which takes no memory.
public struct ZeroProvider: PageProvider {
  /// Makes a provider of zeros.
  public init() {}

  /// One page for a fault, and up to 1 MiB while accesses run on.
  public var requestSize: RequestSize { RequestSize(preferred: 1, largest: 1 << 20) }

  /// All permissions, ``ProviderPermissions/inMemory``: there is nothing to do.
  public var permissions: ProviderPermissions { .inMemory }

  /// Returns ``PageContents/zero`` for any request.
  public func page(_ request: PageRequest, into page: inout PageBuffer) -> PageContents { .zero }
}

/// A provider whose answers come from a closure.
///
/// ```swift
/// let numbered = ClosureProvider(permissions: .inMemory) { request, page in
///   page.append(request.range.lazy.map { UInt8(truncatingIfNeeded: $0 >> 12) })
///   return .filled
/// }
/// let region = try runtime.map(numbered, byteCount: 1 << 20)
/// ```
public struct ClosureProvider: PageProvider {
  /// The number of bytes that the closure prefers to produce at once.
  public let requestSize: RequestSize

  /// What the closure permits.
  public let permissions: ProviderPermissions

  private let body: @Sendable (PageRequest, inout PageBuffer) throws -> PageContents

  /// Creates a provider from a closure.
  ///
  /// - Parameters:
  ///   - requestSize: the number of bytes that the closure prefers to produce at once.
  ///   - permissions: what the closure permits, and thereby promises. By default, several threads may ask at the same
  ///     time.
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

  /// Calls the closure, and throws what the closure throws.
  public func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    try body(request, &page)
  }
}
