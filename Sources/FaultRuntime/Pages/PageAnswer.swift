/// A part of an answer that one kind of request puts in place.
@unsafe
struct AnswerPart {
  var range: AddressRange
  /// Where the bytes are; nil for zeros.
  var source: UnsafeRawPointer?
  /// Whether that is memory of the runtime's own, which can be read.
  var isStaged = true
}

/// What a provider said, as it goes into memory: one part, and a second one where the last page has to be assembled.
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
