/// Two ends of a wait that would never end: the provider that touched lazy memory, and the memory that it touched.
public struct SelfDeadlock: Hashable, Sendable {
  /// The region whose provider was asked.
  public var region: String

  /// What it was asked for, in bytes from the start of that region.
  public var range: Range<Int>

  /// The region that it touched meanwhile; the same one, or one whose pages the same threads produce.
  public var touchedRegion: String

  /// The page that it touched, in bytes from the start of that region.
  public var touchedOffset: Int
}

extension SelfDeadlock: CustomStringConvertible {
  /// Both ends, in one line.
  public var description: String {
    """
    deadlock: the provider of region '\(region)', asked for offsets \(range.lowerBound)..<\(range.upperBound), touched the \
    page at offset \(touchedOffset) of region '\(touchedRegion)', which waits for that provider to return
    """
  }
}
