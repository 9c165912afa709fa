import TestSupport
import Testing

@testable import FaultRuntime

/// A collection whose count is not the number of its bytes.
private struct Miscounted: Collection {
  let bytes: [UInt8]
  let count: Int
  var startIndex: Int { 0 }
  var endIndex: Int { count }
  subscript(index: Int) -> UInt8 { bytes[index] }
  func index(after index: Int) -> Int { index + 1 }
  func makeIterator() -> AnyIterator<UInt8> {
    var rest = bytes[...]
    return AnyIterator { rest.popFirst() }
  }
}

private func computed(_ range: Range<Int>) -> LazyMapCollection<Range<Int>, UInt8> {
  range.lazy.map { UInt8(truncatingIfNeeded: $0 &* $0) }
}

private func contents(of page: borrowing PageBuffer) -> [UInt8] {
  unsafe page.bytes.withUnsafeBytes { unsafe Array($0) }
}

/// A provider that puts a buffer of its own in the place of the one that it is given, and fills it.
private struct Replacing: PageProvider {
  /// The number of bytes in that buffer.
  let byteCount: Int
  var contents = PageContents.filled

  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    page = PageBuffer(byteCount: byteCount)
    page.append(computed(request.offset..<(request.offset + byteCount)))
    return contents
  }
}

@Suite("Another buffer in the place of the one that a provider is given")
struct ReplacedBufferTests {
  @Test("A smaller one is a short answer", arguments: [1, 7, 63, 64])
  func smaller(byteCount: Int) throws {
    let provider = Replacing(byteCount: byteCount)
    var page = PageBuffer(byteCount: 70)
    page.append([9])
    // Short answers are asked on, until the last one would be too long.
    let whole = 64 / byteCount * byteCount
    try page.append(PageRequest(offset: 5, byteCount: whole), from: provider)
    #expect(contents(of: page) == [9] + Array(computed(5..<(5 + whole))))
    #expect(try provider.bytes(of: PageRequest(offset: 5, byteCount: whole)) == Array(computed(5..<(5 + whole))))
  }

  @Test("A smaller one is not in the way of an answer of another kind")
  func otherKinds() throws {
    let lent = UnsafeMutableRawBufferPointer.allocate(byteCount: 16, alignment: 1)
    defer { unsafe lent.deallocate() }
    for index in 0..<16 { unsafe lent[index] = UInt8(100 + index) }
    let answers = [
      (PageContents.zero, [UInt8](repeating: 0, count: 16)),
      (unsafe PageContents.lent(UnsafeRawBufferPointer(lent)), unsafe Array(lent)),
    ]
    for (answer, bytes) in answers {
      let provider = Replacing(byteCount: 3, contents: answer)
      var page = PageBuffer(byteCount: 64)
      page.append([9])
      try page.append(PageRequest(offset: 5, byteCount: 16), from: provider)
      #expect(contents(of: page) == [9] + bytes)
      #expect(try provider.bytes(of: PageRequest(offset: 5, byteCount: 16)) == bytes)
    }
  }

  @Test("A larger one is too long an answer, after which the first buffer is as it was", arguments: [17, 64, 4096])
  func larger(byteCount: Int) throws {
    let provider = Replacing(byteCount: byteCount)
    var page = PageBuffer(byteCount: 64)
    page.append([9])
    var error: (any Error)?
    do { try page.append(PageRequest(offset: 5, byteCount: 16), from: provider) } catch let thrown { error = thrown }
    #expect(error as? ResolutionError == .answerTooLong(produced: byteCount, wanted: 16))
    #expect(contents(of: page) == [9])
    #expect(throws: ResolutionError.answerTooLong(produced: byteCount, wanted: 16)) {
      try provider.bytes(of: PageRequest(offset: 5, byteCount: 16))
    }
  }
}

@Suite("Appending computed bytes")
struct PageBufferTests {
  @Test("A collection goes in behind what is there", arguments: [0, 1, 15, 61, 62])
  func collection(count: Int) {
    var page = PageBuffer(byteCount: 64)
    page.append([9, 8])
    page.append(computed(3..<(3 + count)))
    #expect(page.count == 2 + count)
    #expect(page.freeCapacity == 62 - count)
    #expect(contents(of: page) == [9, 8] + Array(computed(3..<(3 + count))))
  }

  @Test("A sequence goes in behind what is there", arguments: [0, 1, 15, 61, 62])
  func sequence(count: Int) {
    var page = PageBuffer(byteCount: 64)
    page.append([9, 8])
    page.append(AnySequence(computed(3..<(3 + count))))
    #expect(page.count == 2 + count)
    #expect(page.freeCapacity == 62 - count)
    #expect(contents(of: page) == [9, 8] + Array(computed(3..<(3 + count))))
  }

  @Test("A collection that has one byte too many traps")
  func longCollection() async {
    await #expect(processExitsWith: .failure) {
      var page = PageBuffer(byteCount: 64)
      page.append([9, 8])
      page.append(computed(0..<63))
    }
  }

  @Test("A sequence that has one byte too many traps")
  func longSequence() async {
    await #expect(processExitsWith: .failure) {
      var page = PageBuffer(byteCount: 64)
      page.append([9, 8])
      page.append(AnySequence(computed(0..<63)))
    }
  }

  @Test("A collection with fewer bytes than it says traps")
  func missingBytes() async {
    await #expect(processExitsWith: .failure) {
      var page = PageBuffer(byteCount: 64)
      page.append(Miscounted(bytes: [1, 2, 3], count: 4))
    }
  }

  @Test("A slice that has one byte too many traps, before a byte of it is copied")
  func longSlice() async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let bytes = [UInt8](repeating: 1, count: 100)
      var page = PageBuffer(byteCount: 64)
      page.append([9, 8])
      page.append(bytes[10..<73])
    }
    #expect(result.errors.contains("PageBuffer: more bytes appended than the request wants"))
  }

  @Test("A function that says it wrote more bytes than there is room for traps, and so does one with a negative number")
  func wrongNumber() async {
    let long = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      var page = PageBuffer(byteCount: 64)
      page.append([9, 8])
      unsafe page.appendUnsafely { free in free.count + 1 }
    }
    #expect(long.errors.contains("PageBuffer: wrote 63 of 62 bytes"))
    let negative = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      var page = PageBuffer(byteCount: 64)
      page.append([9, 8])
      unsafe page.appendUnsafely { _ in -1 }
    }
    #expect(negative.errors.contains("PageBuffer: wrote -1 of 62 bytes"))
  }

  @Test("A function writes behind what is there")
  func function() {
    var page = PageBuffer(byteCount: 64)
    page.append([9, 8])
    unsafe page.appendUnsafely { free in
      unsafe free[0] = 7
      unsafe free[1] = 6
      return 2
    }
    #expect(contents(of: page) == [9, 8, 7, 6])
    #expect(page.freeCapacity == 60)
  }

  @Test("A negative number of bytes traps")
  func negative() async {
    let answer = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      var page = PageBuffer(byteCount: 64)
      try page.append(PageRequest(offset: 0, byteCount: -1), from: ZeroProvider())
    }
    #expect(answer.errors.contains("PageBuffer: more bytes appended than the request wants"))
    let repeated = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      var page = PageBuffer(byteCount: 64)
      page.append(repeating: 1, count: -1)
    }
    #expect(repeated.errors.contains("PageBuffer: more bytes appended than the request wants"))
  }

  @Test("Nothing fits into a full buffer, and nothing is not too much")
  func full() {
    var page = PageBuffer(byteCount: 0)
    page.append(computed(0..<0))
    page.append(AnySequence([]))
    #expect(page.count == 0)
  }
}
