import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Checked access", .timeLimit(.minutes(6)))
struct AccessTests {
  private func runtime(_ asker: Asker, closeTimeout: Duration = .seconds(5)) throws -> FaultRuntime {
    var configuration = FaultRuntimeConfiguration(
      delivery: asker.delivery, descriptorChoice: .only(.userModeOnly),
      closeTimeout: closeTimeout)
    configuration.streamDistance = 0
    return try FaultRuntime(configuration)
  }

  /// Maps a region whose provider throws an error for every request that contains a page of `bad`.
  private func region(
    _ asker: Asker, byteCount: Int, bad: Set<Int> = [], asked: Requests = Requests(), largest: Int = 4,
    closeTimeout: Duration = .seconds(5)
  ) throws -> LazyRegion {
    let provider = ClosureProvider(
      requestSize: RequestSize(preferred: pageBytes, largest: largest * pageBytes), permissions: asker.permissions
    ) { request, page in
      asked.add(request)
      if request.pages.contains(where: bad.contains) { throw Refused() }
      page.appendExpected(request)
      return .filled
    }
    return try runtime(asker, closeTimeout: closeTimeout).map(
      provider, byteCount: byteCount, options: RegionOptions(name: "checked"))
  }

  // MARK: Resident ranges

  @Test("A system call that a lazy page would fail goes through", arguments: Asker.allCases)
  func systemCall(asker: Asker) throws {
    let region = try region(asker, byteCount: 8 * pageBytes + 100)
    var copy = [UInt8](repeating: 0, count: 3 * pageBytes)
    let start = pageBytes + 50
    #expect(unsafe cts_write_to_pipe(region.address + UInt(start), copy.count, &copy) == Int(-EFAULT))
    let written = try unsafe region.withUnsafeResident(start..<(start + copy.count)) { bytes in
      unsafe cts_write_to_pipe(UInt(bitPattern: bytes.baseAddress), bytes.count, &copy)
    }
    #expect(written == copy.count)
    #expect(copy == expectedBytes(start..<(start + copy.count)))
    #expect(!region.isResident(6 * pageBytes))
  }

  @Test("read(2) into a resident range, of zeros too", arguments: Asker.allCases)
  func readInto(asker: Asker) throws {
    let file = try TemporaryFile(bytes: expectedBytes(0..<(2 * pageBytes), seed: 9))
    let descriptor = unsafe open(file.path, O_RDONLY)
    defer { close(descriptor) }
    let region = try runtime(asker).map(ZeroProvider(), byteCount: 4 * pageBytes)
    let count = try unsafe region.withUnsafeMutableResident(pageBytes..<(3 * pageBytes)) { bytes in
      unsafe pread(descriptor, bytes.baseAddress, bytes.count, 0)
    }
    #expect(count == 2 * pageBytes)
    for offset in stride(from: 0, to: 2 * pageBytes, by: 97) {
      #expect(region.access(pageBytes + offset) == .byte(expectedByte(offset, seed: 9)))
    }
    #expect(region.access(0) == .byte(0))
  }

  @Test(
    "A page that cannot be had is an error, and the closure is not called",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison), arguments: Asker.allCases)
  func failure(asker: Asker) throws {
    let region = try region(asker, byteCount: 8 * pageBytes, bad: [3])
    let error = #expect(throws: FaultRuntimeError.self) {
      try unsafe region.withUnsafeResident(0..<(8 * pageBytes)) { _ in Issue.record("called") }
    }
    #expect(error?.code == .pageFailed)
    #expect(error?.failure?.offset == 3 * pageBytes)
    #expect(error?.failure?.cause is Refused)
    // The page is poisoned by now, and the error is the same.
    #expect(region.access(3 * pageBytes) == .signal(region.failureSignal))
    #expect(throws: FaultRuntimeError.self) { try unsafe region.withUnsafeResident(0..<(8 * pageBytes)) { _ in } }
    // A call that failed leaves no pin behind, so closing does not wait.
    region.close()
    #expect(region.isClosed)
  }

  @Test("What the closure throws gets through, and an empty range is an empty buffer")
  func closure() throws {
    let region = try region(.pool, byteCount: pageBytes)
    #expect(throws: Refused.self) { try unsafe region.withUnsafeResident(0..<1) { _ in throw Refused() } }
    let count = try unsafe region.withUnsafeResident(5..<5) { $0.count }
    #expect(count == 0)
  }

  @Test("Ranges that are not within the region", arguments: [-1..<1, 0..<(pageBytes + 1), Int.min..<0, 5..<Int.max])
  func outOfBounds(range: Range<Int>) throws {
    let region = try region(.handler, byteCount: pageBytes)
    for call in [
      { try unsafe region.withUnsafeResident(range) { _ in } },
      { try unsafe region.forEachUnsafePiece(of: range) { _, _ in } },
    ] {
      let error = #expect(throws: FaultRuntimeError.self) { try call() }
      #expect(error?.code == .rangeOutOfBounds)
    }
  }

  @Test(
    "Copies that are not within the region", arguments: [(-1, 2), (0, pageBytes + 1), (Int.max, 1), (pageBytes, 1)])
  func copiesOutOfBounds(offset: Int, count: Int) throws {
    let region = try region(.handler, byteCount: pageBytes)
    var bytes = [UInt8](repeating: 0, count: count)
    let reading = #expect(throws: FaultRuntimeError.self) {
      var span = bytes.mutableSpan
      var raw = unsafe span.mutableBytes
      try region.read(into: &raw, at: offset)
    }
    #expect(reading?.code == .rangeOutOfBounds)
    let writing = #expect(throws: FaultRuntimeError.self) { try region.write(bytes, at: offset) }
    #expect(writing?.code == .rangeOutOfBounds)
  }

  @Test("Closing waits for the closure, and whoever comes later is refused")
  func closing() throws {
    let region = try region(.pool, byteCount: 4 * pageBytes)
    let order = Monitor<[String]>([])
    let closer = Monitor<TestThread?>(nil)
    try unsafe region.withUnsafeResident(0..<pageBytes) { bytes in
      let thread = TestThread {
        region.close()
        order.withLock { $0.append("closed") }
      }
      closer.withLock { $0 = thread }
      #expect(eventually { region.isClosed })
      // The bytes are still right, although closing has begun.
      let byte = unsafe bytes[7]
      #expect(byte == expectedByte(7))
      let error = #expect(throws: FaultRuntimeError.self) { try unsafe region.withUnsafeResident(0..<1) { _ in } }
      #expect(error?.code == .regionClosed)
      order.withLock { $0.append("left") }
    }
    #expect(closer.withLock { $0 }?.join() == true)
    #expect(order.withLock { $0 } == ["left", "closed"])
  }

  @Test("Whoever is done with the memory, or could not have it, is not waited for by closing")
  func leaving() throws {
    struct Bad: Error {}
    let region = try region(.pool, byteCount: 4 * pageBytes)
    let pins = region.core.pins
    try unsafe region.withUnsafeResident(0..<pageBytes) { _ in #expect(pins.count == 1) }
    #expect(pins.count == 0)
    #expect(throws: Bad.self) { try unsafe region.withUnsafeResident(0..<pageBytes) { _ in throw Bad() } }
    #expect(pins.count == 0)
    try unsafe region.withUnsafeMutableResident(0..<pageBytes) { _ in #expect(pins.count == 1) }
    #expect(pins.count == 0)
    #expect(throws: FaultRuntimeError.self) { try unsafe region.withUnsafeResident(0..<(5 * pageBytes)) { _ in } }
    #expect(pins.count == 0)
    _ = try region.read(0..<(2 * pageBytes))
    #expect(pins.count == 0)
    try region.write([1, 2, 3], at: 5)
    #expect(pins.count == 0)
  }

  @Test("A closure that closes its own region waits for itself no longer than the timeout")
  func closesItself() throws {
    let region = try region(.pool, byteCount: pageBytes, closeTimeout: .milliseconds(20))
    try unsafe region.withUnsafeResident(0..<1) { _ in region.close() }
    #expect(region.isClosed)
    let address = region.core.range.start
    #expect(read(address) == .signal(SIGSEGV))
  }

  // MARK: Copies

  @Test("Bytes are copied out and in, over more than one step", arguments: Asker.allCases)
  func copies(asker: Asker) throws {
    let count = (1 << 20) + 3 * pageBytes + 17
    let region = try region(asker, byteCount: count + 1000, largest: 32)
    var bytes = [UInt8](repeating: 0, count: count)
    var span = bytes.mutableSpan
    var raw = unsafe span.mutableBytes
    try region.read(into: &raw, at: 33)
    #expect(bytes == expectedBytes(33..<(33 + count)))
    #expect(try region.read(40..<99) == expectedBytes(40..<99))
    #expect(try region.read(7..<7) == [])

    let new = expectedBytes(0..<count, seed: 4)
    try region.write(new, at: 500)
    let all = region.bytes
    for offset in stride(from: 0, to: count + 1000, by: 61) {
      let byte = unsafe all.unsafeLoad(fromByteOffset: offset, as: UInt8.self)
      #expect(byte == ((500..<(500 + count)).contains(offset) ? new[offset - 500] : expectedByte(offset)))
    }
  }

  @Test("A copy over a bad page is an error, and leaves what is behind it alone", arguments: Asker.allCases)
  func badCopy(asker: Asker) throws {
    let region = try region(asker, byteCount: 8 * pageBytes, bad: [2])
    let error = #expect(throws: FaultRuntimeError.self) { try region.read(0..<(8 * pageBytes)) }
    #expect(error?.failure?.offset == 2 * pageBytes)
    #expect(throws: FaultRuntimeError.self) { try region.write([1, 2, 3], at: 2 * pageBytes) }
  }

  // MARK: Pieces

  @Test("Pieces have the right bytes, and no page becomes resident", arguments: Asker.allCases, [1, 3, 1000])
  func pieces(asker: Asker, pagesEach: Int) throws {
    let byteCount = 21 * pageBytes + 77
    let region = try region(asker, byteCount: byteCount)
    let range = 100..<(byteCount - 5)
    var next = range.lowerBound
    var sizes: [Int] = []
    try unsafe region.forEachUnsafePiece(of: range, byteCount: pagesEach * pageBytes) { bytes, offset in
      #expect(offset == next)
      let isRight = unsafe bytes.enumerated().allSatisfy { $1 == expectedByte(offset + $0) }
      #expect(isRight)
      next += bytes.count
      sizes.append(bytes.count)
    }
    #expect(next == range.upperBound)
    #expect(sizes.dropFirst().dropLast().allSatisfy { $0 == pagesEach * pageBytes })
    for page in 0..<22 { #expect(!region.isResident(page * pageBytes)) }
  }

  @Test("Pages that are there give what was written to them", arguments: Asker.allCases)
  func writtenPieces(asker: Asker) throws {
    let region = try region(asker, byteCount: 8 * pageBytes)
    #expect(write(0xee, to: region.address + UInt(3 * pageBytes + 5)) == .byte(0xee))
    var all: [UInt8] = []
    try unsafe region.forEachUnsafePiece(of: 0..<(8 * pageBytes), byteCount: 2 * pageBytes) { bytes, _ in
      unsafe all.append(contentsOf: bytes)
    }
    var expected = expectedBytes(0..<(8 * pageBytes))
    expected[3 * pageBytes + 5] = 0xee
    #expect(all == expected)
    #expect(!region.isResident(6 * pageBytes))
  }

  @Test(
    "A bad page ends the pieces with its error, poisoned before or not",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison), arguments: Asker.allCases, [false, true])
  func badPieces(asker: Asker, isPoisoned: Bool) throws {
    let region = try region(asker, byteCount: 8 * pageBytes, bad: [5], largest: 1)
    if isPoisoned { #expect(region.access(5 * pageBytes) == .signal(region.failureSignal)) }
    var count = 0
    let error = #expect(throws: FaultRuntimeError.self) {
      try unsafe region.forEachUnsafePiece(of: 0..<(8 * pageBytes), byteCount: 2 * pageBytes) { _, _ in count += 1 }
    }
    #expect(error?.code == .pageFailed)
    #expect(error?.failure?.cause is Refused)
    #expect(count == 2)
  }

  @Test("Pieces keep the region's timeout, and what comes too late is written nowhere")
  func piecesTimeout() throws {
    let gate = Gate()
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(providerThreads: 1))
    let region = try runtime.map(
      ClosureProvider { request, page in
        gate.wait()
        page.append(repeating: 9, count: request.byteCount)
        return .filled
      }, byteCount: pageBytes, options: RegionOptions(timeout: .milliseconds(20)))
    let error = #expect(throws: FaultRuntimeError.self) {
      try unsafe region.forEachUnsafePiece(of: 0..<pageBytes) { _, _ in Issue.record("called") }
    }
    #expect(error?.failure?.cause as? ResolutionError == .timeoutExceeded(.milliseconds(20)))
    // Another thread has replaced the stuck one.
    let other = try runtime.map(patternProvider(mayBlock: true), byteCount: pageBytes)
    #expect(mismatches(in: other) == [])
    gate.open()
  }

  @Test(
    "Pieces of a closed region, and from a provider on the thread that would have to answer", arguments: [false, true])
  func refusedPieces(mayBlock: Bool) throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop, handlerThreads: 1))
    let inner = try runtime.map(patternProvider(mayBlock: mayBlock), byteCount: pageBytes)
    let code = Monitor<FaultRuntimeError.Code?>(nil)
    let outer = try runtime.map(
      ClosureProvider(permissions: mayBlock ? .standard : .onHandler) { request, page in
        do {
          try unsafe inner.forEachUnsafePiece(of: 0..<pageBytes) { _, _ in }
        } catch let error as FaultRuntimeError {
          code.withLock { $0 = error.code }
        }
        page.append(repeating: 3, count: request.byteCount)
        return .filled
      }, byteCount: pageBytes)
    #expect(outer.access(0) == .byte(3))
    #expect(code.withLock { $0 } == .prefetchFromProvider)
    inner.close()
    let error = #expect(throws: FaultRuntimeError.self) { try unsafe inner.forEachUnsafePiece(of: 0..<1) { _, _ in } }
    #expect(error?.code == .regionClosed)
  }

  @Test("The page that is to blame is named, and pieces in front of it come", arguments: Asker.allCases)
  func blamedPage(asker: Asker) throws {
    let region = try region(asker, byteCount: 16 * pageBytes, bad: [13], largest: 16)
    var pieces: [Int] = []
    let error = #expect(throws: FaultRuntimeError.self) {
      unsafe try region.forEachUnsafePiece(of: 0..<(16 * pageBytes), byteCount: 4 * pageBytes) {
        pieces.append($1 / pageBytes)
      }
    }
    #expect(error?.failure?.offset == 13 * pageBytes)
    #expect(pieces == [0, 4, 8])
  }

  @Test("A provider that answers page by page is asked for each", arguments: Asker.allCases)
  func shortAnswers(asker: Asker) throws {
    let provider = ClosureProvider(
      requestSize: RequestSize(preferred: pageBytes, largest: 8 * pageBytes), permissions: asker.permissions
    ) { request, page in
      page.append(expectedBytes(request.offset..<(request.offset + pageBytes)))
      return .filled
    }
    let region = try runtime(asker).map(provider, byteCount: 8 * pageBytes)
    var bytes: [UInt8] = []
    unsafe try region.forEachUnsafePiece(of: 0..<(8 * pageBytes)) { piece, _ in unsafe bytes += Array(piece) }
    #expect(bytes == expectedBytes(0..<(8 * pageBytes)))
  }
}
