/// A part of an answer that a single kind of request puts in place.
@unsafe
struct AnswerPart {
  /// Where the bytes of the part come from.
  @unsafe
  enum Content {
    /// The bytes begin at this address. If `isStaged` is true, they are in memory of the runtime, which is always
    /// readable.
    case bytes(UnsafeRawPointer, isStaged: Bool)
    /// Every byte is zero.
    case zeros
    /// The page cache of the mapping already has the pages (`UFFDIO_CONTINUE`).
    case pageCache
  }

  var range: AddressRange
  var content: Content

  @inline(__always)
  init(_ range: AddressRange, _ content: Content) {
    unsafe self.range = range
    unsafe self.content = content
  }
}

/// A provider's answer in the form in which it goes into memory. The second part is the last page of the region, if
/// that page had to be assembled from lent bytes and zeros.
@unsafe
struct PageAnswer {
  var first: AnswerPart
  var second: AnswerPart?

  @inline(__always)
  init(_ first: AnswerPart, _ second: AnswerPart? = nil) {
    unsafe self.first = first
    unsafe self.second = second
  }
}
