/// The sizes of requests that a provider likes, in bytes. Both are rounded up to whole pages.
public struct RequestSize: Hashable, Sendable {
  /// The unit that a fault brings in at least: requests are multiples of it, counted from the start of the region.
  public let preferred: Int

  /// The most that one request asks for: requests grow to this while accesses run on (``RegionOptions/Advice``), where
  /// faults on neighbouring units are merged, and for ``LazyRegion/prefetch(_:)``. Where it is the preferred size, all
  /// requests have one size.
  public let largest: Int

  /// Takes sizes in bytes, each at least 1. `largest` is raised to `preferred` where it is smaller.
  ///
  /// Traps where `preferred` is not positive.
  public init(preferred: Int, largest: Int) {
    precondition(preferred > 0, "RequestSize: the preferred size is at least one byte, got \(preferred)")
    self.preferred = preferred
    self.largest = max(preferred, largest)
  }

  /// One page for a fault, up to 64 KiB while accesses run on.
  public static let standard = RequestSize(preferred: 1, largest: 64 << 10)

  /// One page for each request, always.
  public static let singlePage = RequestSize(preferred: 1, largest: 1)
}

/// Which bytes of a region are wanted.
public struct PageRequest: Hashable, Sendable {
  /// Where the wanted bytes start, in bytes from the start of the region: a multiple of the page size.
  public let offset: Int

  /// How many bytes are wanted: whole pages, except at the exact end of the region.
  public let byteCount: Int

  /// A request for `byteCount` bytes at `offset`. Providers that wrap another one and tests of providers make them.
  public init(offset: Int, byteCount: Int) {
    self.offset = offset
    self.byteCount = byteCount
  }

  /// The wanted bytes, as offsets in the region.
  public var range: Range<Int> { offset..<(offset + byteCount) }
}
