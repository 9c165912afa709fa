/// Memory that reads as zero until it is written: every page is the kernel's own page of zeros.
public struct ZeroProvider: PageProvider {
  /// Makes a provider of zeros.
  public init() {}

  /// Pages of zeros cost nothing to produce, so a fault brings 64 KiB.
  public var requestSize: RequestSize { RequestSize(preferred: 64 << 10, largest: 1 << 20) }

  /// Says that the request is zero.
  public func page(_ request: PageRequest, into page: inout PageBuffer) -> PageContents { .zero }
}

/// A provider made of a closure.
public struct ClosureProvider: PageProvider {
  /// How much the closure likes to produce at once.
  public let requestSize: RequestSize

  private let body: @Sendable (PageRequest, inout PageBuffer) throws -> PageContents

  /// Makes a provider of `body`, which keeps the rules of ``PageProvider/page(_:into:)``.
  public init(
    requestSize: RequestSize = .singlePage,
    _ body: @escaping @Sendable (PageRequest, inout PageBuffer) throws -> PageContents
  ) {
    self.requestSize = requestSize
    self.body = body
  }

  /// Calls the closure.
  public func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    try body(request, &page)
  }
}
