/// A wait that would never end: a provider touched lazy memory that needs the thread on which the provider runs.
///
/// The value names both ends of the wait: what the provider was asked for, and the page that it touched. It comes
/// with a ``ResolutionError`` of the code ``ResolutionError/Code-swift.struct/deadlock``.
public struct SelfDeadlock: Hashable, Sendable {
  /// The name of the region whose provider was asked, or `unknown` if the runtime cannot tell.
  public var region: String

  /// What the provider was asked for, in bytes from the start of that region. The range is empty if the region is
  /// unknown. For a provider that runs in a signal handler, it is the page whose fault is being answered.
  public var range: Range<Int>

  /// The name of the region that the provider touched. This is the same region, or another one whose pages the same
  /// threads produce.
  public var touchedRegion: String

  /// The offset of the page that the provider touched, in bytes from the start of the touched region.
  public var touchedOffset: Int
}

extension SelfDeadlock: CustomStringConvertible {
  /// One line that names both ends.
  public var description: String {
    """
    deadlock: the provider of region '\(region)', asked for offsets \(range.lowerBound)..<\(range.upperBound), \
    touched the page at offset \(touchedOffset) of region '\(touchedRegion)', which waits for that provider to \
    return
    """
  }
}
