/// A page that could not be produced: the access to it failed instead of reading something that nobody said.
public struct PageFailure: Error, Sendable {
  /// The name of the region.
  public var region: String

  /// Where the page starts, in bytes from the start of the region.
  public var offset: Int

  /// The length of a page, in bytes.
  public var byteCount: Int

  /// The provider: its own description where it has one (`CustomStringConvertible`), and its type's name otherwise.
  public var provider: String

  /// What the provider threw, or a ``ResolutionError``.
  public var cause: any Error
}

extension PageFailure: CustomStringConvertible {
  /// One line: region, offset, provider and cause.
  public var description: String {
    "region '\(region)', page at offset \(offset), provider \(provider): \(cause)"
  }
}
