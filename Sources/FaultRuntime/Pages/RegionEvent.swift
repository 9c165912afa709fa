/// A change that the program made to the memory of a region without the runtime, such as `munmap(2)`.
///
/// The runtime learns of such changes from the kernel, for regions that the event loop serves
/// (`UFFD_FEATURE_EVENT_REMAP`, `UFFD_FEATURE_EVENT_UNMAP`, `UFFD_FEATURE_EVENT_REMOVE`). It also learns of them for
/// regions with ``Delivery/sigbus``, but not of discarded memory. The kernel does not report `mprotect(2)`, and it
/// reports nothing about regions with ``Delivery/sigsegv``. ``FaultRuntimeConfiguration/onEvent`` receives the events.
///
/// ```swift
/// var configuration = FaultRuntimeConfiguration()
/// configuration.onEvent = { event in
///   if event.kind == .discarded { print(event) }
/// }
/// ```
public struct RegionEvent: Hashable, Sendable {
  /// The kind of a change. Later versions may add more kinds, so a program should ignore kinds that it does not know.
  public struct Kind: Hashable, Sendable {
    fileprivate enum Name: String {
      case discarded, unmapped, moved
    }
    fileprivate let name: Name

    /// `MADV_DONTNEED`, `MADV_FREE` or `MADV_REMOVE`. What was written to the pages is lost, and the next touch asks
    /// the provider again.
    public static let discarded = Kind(name: .discarded)

    /// `munmap(2)`, a mapping of other memory over the region, or `mremap(2)` that made the memory smaller. The
    /// addresses no longer belong to the region, and ``LazyRegion/close()`` leaves them alone.
    public static let unmapped = Kind(name: .unmapped)

    /// `mremap(2)`. Pages that were resident are now at the new address. Accesses to the other pages fail there and
    /// never read zeros, because a region is served only where it was mapped.
    public static let moved = Kind(name: .moved)
  }

  /// The kind of the change.
  public let kind: Kind

  /// The name of the region.
  public let region: String

  /// The part of the region that changed, in bytes from the start of the region. It consists of whole pages.
  public let range: Range<Int>

  /// The new address of the first byte of ``range``, for the kind `moved`. For other kinds it is nil.
  public let destination: UInt?

  /// Creates an event of the kind `discarded`. `range` is in bytes from the start of the region.
  public static func discarded(region: String, range: Range<Int>) -> RegionEvent {
    RegionEvent(kind: .discarded, region: region, range: range, destination: nil)
  }

  /// Creates an event of the kind `unmapped`. `range` is in bytes from the start of the region.
  public static func unmapped(region: String, range: Range<Int>) -> RegionEvent {
    RegionEvent(kind: .unmapped, region: region, range: range, destination: nil)
  }

  /// Creates an event of the kind `moved`. `range` is in bytes from the start of the region, and `destination` is the
  /// new address of its first byte.
  public static func moved(region: String, range: Range<Int>, to destination: UInt) -> RegionEvent {
    RegionEvent(kind: .moved, region: region, range: range, destination: destination)
  }
}

extension RegionEvent.Kind: CustomStringConvertible {
  /// The name of the kind: `discarded`, `unmapped` or `moved`.
  public var description: String { name.rawValue }
}

extension RegionEvent: CustomStringConvertible {
  /// One line with the region, the offsets and the kind of the change. For the kind `moved`, it also has the new
  /// address.
  public var description: String {
    let place = destination.map { " to 0x" + String($0, radix: 16) } ?? ""
    return "region '\(region)', offsets \(range.lowerBound)..<\(range.upperBound): \(kind)\(place)"
  }
}
