/// Memory that reads as zero until it is written: every page is the kernel's own page of zeros.
public struct ZeroProvider: PageProvider {
  /// Makes a provider of zeros.
  public init() {}

  /// One page for a fault, up to 1 MiB while accesses run on.
  public var requestSize: RequestSize { RequestSize(preferred: 1, largest: 1 << 20) }

  /// No.
  public var mayBlock: Bool { false }

  /// Yes.
  public var mayRunInFaultingThread: Bool { true }

  /// Says that the request is zero.
  public func page(_ request: PageRequest, into page: inout PageBuffer) -> PageContents { .zero }
}

/// A provider made of a closure.
public struct ClosureProvider: PageProvider {
  /// How much the closure likes to produce at once.
  public let requestSize: RequestSize

  /// Whether the closure may take long.
  public let mayBlock: Bool

  /// Whether the closure keeps the rules of ``PageProvider/mayRunInFaultingThread``.
  public let mayRunInFaultingThread: Bool

  private let body: @Sendable (PageRequest, inout PageBuffer) throws -> PageContents

  /// Makes a provider of `body`, which keeps the rules of ``PageProvider/page(_:into:)``.
  public init(
    requestSize: RequestSize = .standard,
    mayBlock: Bool = true,
    mayRunInFaultingThread: Bool = false,
    _ body: @escaping @Sendable (PageRequest, inout PageBuffer) throws -> PageContents
  ) {
    self.requestSize = requestSize
    self.mayBlock = mayBlock
    self.mayRunInFaultingThread = mayRunInFaultingThread
    self.body = body
  }

  /// Calls the closure.
  public func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    try body(request, &page)
  }
}
