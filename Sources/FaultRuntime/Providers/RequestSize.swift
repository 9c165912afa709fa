/// The sizes of the requests that a provider prefers, in bytes.
///
/// ```swift
/// /// The source is compressed in blocks of 64 KiB.
/// var requestSize: RequestSize { RequestSize(preferred: 64 << 10, largest: 1 << 20) }
/// ```
///
/// The runtime rounds both sizes up to whole pages, and then rounds the largest one down to a multiple of the
/// preferred one. If it is more than 1 GiB, mapping a region over the provider is an error.
public struct RequestSize: Hashable, Sendable {
  /// The unit of requests, in bytes: a fault brings in at least one unit. Requests for faults begin and end at
  /// multiples of the unit, counted from the start of the region. The exceptions are the end of the region, and the
  /// single pages that the runtime asks for again after an error.
  public let preferred: Int

  /// The most that one request asks for, in bytes. A request is larger than one unit if accesses run on
  /// (``RegionOptions/Advice``), if it answers several faults on neighbouring units, or if it serves
  /// ``LazyRegion/prefetch(_:)``. With ``Delivery/sigbus`` and ``Delivery/sigsegv``, a request for a fault grows to
  /// 256 KiB at most. If both sizes are the same, requests do not grow.
  public let largest: Int

  /// Creates a pair of sizes. If `largest` is smaller than `preferred`, it is raised to `preferred`.
  ///
  /// Traps if `preferred` is not positive.
  ///
  /// - Parameters:
  ///   - preferred: the unit of requests, in bytes.
  ///   - largest: the most that one request asks for, in bytes.
  public init(preferred: Int, largest: Int) {
    precondition(preferred > 0, "RequestSize: the preferred size is at least one byte, got \(preferred)")
    self.preferred = preferred
    self.largest = max(preferred, largest)
  }

  /// One page for a fault, and up to 64 KiB while accesses run on.
  public static let standard = RequestSize(preferred: 1, largest: 64 << 10)

  /// Always one page for each request.
  public static let singlePage = RequestSize(preferred: 1, largest: 1)
}
