/// A part of an answer that one kind of request puts in place.
@unsafe
struct AnswerPart {
  /// Where the bytes of a part come from.
  @unsafe
  enum Content {
    /// The bytes are at this address. `isStaged` says that it is memory of the runtime's own, which can certainly be read.
    case bytes(UnsafeRawPointer, isStaged: Bool)
    /// Every byte is zero.
    case zeros
    /// The pages are in the page cache of the mapping already (`UFFDIO_CONTINUE`).
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

/// What a provider said, in the form in which it goes into memory. There is a second part where the last page had to be
/// assembled.
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
