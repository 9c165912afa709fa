/// A page that could not be produced. An access to such a page fails; it never reads bytes that no provider gave.
///
/// The failures of a region are in ``LazyRegion/failures``. ``FaultRuntimeConfiguration/onFailure`` receives a
/// failure before the access fails. Functions that throw instead put the failure into an error of the code
/// ``FaultRuntimeError/Code-swift.struct/pageFailed``.
///
/// ```swift
/// for failure in region.failures {
///   print("\(failure.region), offset \(failure.offset): \(failure.cause)")
/// }
/// ```
public struct PageFailure: Error, Sendable {
  /// The name of the region.
  public var region: String

  /// The offset of the page, in bytes from the start of the region.
  public var offset: Int

  /// The size of the page, in bytes.
  public var byteCount: Int

  /// The provider as text: its description if it is `CustomStringConvertible`, and otherwise the name of its type.
  public var provider: String

  /// The error that the provider threw, or a ``ResolutionError``. A call that throws makes the text of this error
  /// while the signals of its thread are blocked. So a `description` of your own must not wait for a signal.
  public var cause: any Error
}

extension PageFailure: CustomStringConvertible {
  /// One line with the region, the offset, the provider and the cause.
  public var description: String {
    "region '\(region)', page at offset \(offset), provider \(provider): \(cause)"
  }
}

extension PageFailure {
  /// Returns the failure with `text` in place of its cause, whose own text is made by code of the program.
  func withCause(_ text: String) -> PageFailure {
    var failure = self
    failure.cause = CauseText(description: "(\(text))")
    return failure
  }
}

private struct CauseText: Error, CustomStringConvertible {
  var description: String
}
