/// What the program has done to a region's memory behind the runtime's back, as far as the kernel tells: with the event loop
/// (`UFFD_FEATURE_EVENT_REMAP`, `_UNMAP`, `_REMOVE`).
///
/// `mprotect(2)` is not told, and neither is anything of a region that its faulting threads serve (`sigbus`).
public struct RegionEvent: Hashable, Sendable {
  /// What was done. More may be added: leave alone what you do not know.
  public struct Kind: Hashable, Sendable {
    fileprivate enum Name: String {
      case discarded, unmapped, moved
    }
    fileprivate let name: Name

    /// `MADV_DONTNEED`, `MADV_FREE` or `MADV_REMOVE`: what was written there is lost, and the provider is asked again.
    public static let discarded = Kind(name: .discarded)

    /// `munmap(2)`, a mapping of something else in its place, or `mremap(2)` that made it smaller. What is there now is not
    /// the region's any more, and ``LazyRegion/close()`` leaves it alone.
    public static let unmapped = Kind(name: .unmapped)

    /// `mremap(2)`. Pages that had come are at the new address; the others fail there, because a region is served where it
    /// was mapped only. They never read as zero.
    public static let moved = Kind(name: .moved)
  }

  /// What was done.
  public let kind: Kind

  /// The name of the region.
  public let region: String

  /// To which part of it, in bytes from the start of the region; whole pages.
  public let range: Range<Int>

  /// The address that the first byte of ``range`` has now, for the kind `moved`; nil for the others.
  public let destination: UInt?

  /// An event of the kind `discarded`.
  public static func discarded(region: String, range: Range<Int>) -> RegionEvent {
    RegionEvent(kind: .discarded, region: region, range: range, destination: nil)
  }

  /// An event of the kind `unmapped`.
  public static func unmapped(region: String, range: Range<Int>) -> RegionEvent {
    RegionEvent(kind: .unmapped, region: region, range: range, destination: nil)
  }

  /// An event of the kind `moved`.
  public static func moved(region: String, range: Range<Int>, to destination: UInt) -> RegionEvent {
    RegionEvent(kind: .moved, region: region, range: range, destination: destination)
  }
}

extension RegionEvent.Kind: CustomStringConvertible {
  /// `discarded`, `unmapped` or `moved`.
  public var description: String { name.rawValue }
}

extension RegionEvent: CustomStringConvertible {
  /// Region, offsets and what was done, in one line.
  public var description: String {
    let place = destination.map { " to 0x" + String($0, radix: 16) } ?? ""
    return "region '\(region)', offsets \(range.lowerBound)..<\(range.upperBound): \(kind)\(place)"
  }
}
