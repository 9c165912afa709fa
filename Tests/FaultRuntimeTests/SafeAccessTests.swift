import CTestSupport
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Access without pointers", .timeLimit(.minutes(6)))
struct SafeAccessTests {
  private struct Bad: Error, Equatable {}

  /// Makes a region of eight pages of the pattern and five more bytes. The provider throws an error for the page
  /// `bad`.
  private func region(
    _ delivery: Delivery = .auto, bad: Int? = nil, access: RegionOptions.Access = .readWrite,
    closeTimeout: Duration = .seconds(5)
  ) throws -> LazyRegion {
    try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery, closeTimeout: closeTimeout)).map(
      ClosureProvider(
        requestSize: RequestSize(preferred: 1, largest: 1), permissions: .test(mayBlock: true, inFaultingThread: true)
      ) {
        request, page in
        if let bad, request.range.contains(bad * pageBytes) { throw Refused() }
        page.append(request.range.lazy.map { expectedByte($0) })
        return .filled
      }, byteCount: 8 * pageBytes + 5, options: RegionOptions(access: access))
  }

  /// Returns the bytes of the pattern as a number.
  private func expected<Value: FixedWidthInteger>(_ offset: Int, as type: Value.Type = Value.self) -> Value {
    (0..<MemoryLayout<Value>.size).reduce(0) { $0 | Value(truncatingIfNeeded: expectedByte(offset + $1)) << ($1 * 8) }
  }

  // MARK: Plain access

  @Test(
    "A value is read and written anywhere, over the border of pages and up to the last byte",
    arguments: [Delivery.auto, .eventLoop, .sigsegv])
  func scalars(delivery: Delivery) throws {
    let region = try region(delivery)
    let end = 8 * pageBytes + 5
    for offset in [0, 1, 3, pageBytes - 1, 3 * pageBytes - 4, end - 8] {
      #expect(region.load(fromByteOffset: offset, as: UInt64.self).littleEndian == expected(offset))
      #expect(region.load(fromByteOffset: offset, as: Int16.self).littleEndian == expected(offset))
    }
    #expect(region.load(fromByteOffset: end - 1, as: UInt8.self) == expectedByte(end - 1))
    region.store(1.5, toByteOffset: 2 * pageBytes - 3)
    #expect(region.load(fromByteOffset: 2 * pageBytes - 3, as: Double.self) == 1.5)
    #expect(region.load(fromByteOffset: 2 * pageBytes - 4, as: UInt8.self) == expectedByte(2 * pageBytes - 4))
    #expect(region.load(fromByteOffset: 2 * pageBytes + 5, as: UInt8.self) == expectedByte(2 * pageBytes + 5))
    region.store(UInt32.max, toByteOffset: end - 4)
    #expect(region.load(fromByteOffset: end - 5, as: UInt8.self) == expectedByte(end - 5))
  }

  @Test("The bytes are there for a closure, whose error and result it passes on")
  func closures() throws {
    let region = try region()
    let count = region.withBytes { bytes in
      #expect(bytes.load(fromByteOffset: pageBytes + 1, as: UInt32.self).littleEndian == expected(pageBytes + 1))
      return bytes.byteCount
    }
    #expect(count == region.byteCount)
    region.withMutableBytes { bytes in
      #expect(bytes.byteCount == region.byteCount)
      bytes.storeBytes(of: 77, toByteOffset: 5 * pageBytes, as: UInt8.self)
      #expect(bytes.load(fromByteOffset: 5 * pageBytes, as: UInt8.self) == 77)
    }
    #expect(region.load(fromByteOffset: 5 * pageBytes, as: UInt8.self) == 77)
    let typed: Result<Void, Bad> = Result { () throws(Bad) in
      try region.withBytes { (_) throws(Bad) in throw Bad() }
    }
    #expect(throws: Bad.self) { try typed.get() }
    #expect(throws: Bad.self) { try region.withMutableBytes { (_) throws(Bad) in throw Bad() } }
    #expect(region.holders.count == 0)
  }

  @Test("The region of a class and of an actor can be used from outside, and by their own methods")
  func stored() async throws {
    final class Holder: Sendable {
      let region: LazyRegion
      init(_ region: LazyRegion) { self.region = region }
      func byte(_ offset: Int) -> UInt8 {
        region.withBytes { $0.load(fromByteOffset: offset, as: UInt8.self) }
      }
    }
    actor Keeper {
      private var region: LazyRegion
      init(_ region: LazyRegion) { self.region = region }
      func byte(_ offset: Int) throws(FaultRuntimeError) -> UInt8 {
        try region.withResident(offset..<(offset + 1)) { $0.load(fromByteOffset: 0, as: UInt8.self) }
      }
    }
    let holder = Holder(try region())
    #expect(holder.byte(9) == expectedByte(9))
    #expect(holder.region.load(fromByteOffset: 10, as: UInt8.self) == expectedByte(10))
    #expect(holder.region.withBytes { $0.load(fromByteOffset: 11, as: UInt8.self) } == expectedByte(11))
    let keeper = Keeper(holder.region)
    #expect(try await keeper.byte(3 * pageBytes) == expectedByte(3 * pageBytes))
  }

  @Test(
    "Closing waits for a closure that uses the bytes, and none is let in afterwards",
    arguments: [Delivery.sigbus, .eventLoop, .sigsegv], [false, true])
  func closing(delivery: Delivery, isMutable: Bool) throws {
    let region = try region(delivery)
    let (isIn, mayGo, hasLeft) = (Gate(), Gate(), Monitor(false))
    let user = TestThread {
      if isMutable {
        region.withMutableBytes { bytes in
          isIn.open()
          mayGo.wait()
          bytes.storeBytes(of: 1, toByteOffset: 7 * pageBytes, as: UInt8.self)
          // Closing waits for this thread, so the thread may continue to use the bytes in other ways.
          region.store(UInt8(2), toByteOffset: 6 * pageBytes)
          region.withMutableBytes { $0.storeBytes(of: 3, toByteOffset: 5 * pageBytes, as: UInt8.self) }
          hasLeft.withLock { $0 = true }
        }
      } else {
        region.withBytes { bytes in
          isIn.open()
          mayGo.wait()
          #expect(bytes.load(fromByteOffset: 7 * pageBytes, as: UInt8.self) == expectedByte(7 * pageBytes))
          // Closing waits for this thread, so the thread may continue to use the bytes in other ways.
          #expect(region.load(fromByteOffset: 6 * pageBytes, as: UInt8.self) == expectedByte(6 * pageBytes))
          region.withBytes {
            #expect($0.load(fromByteOffset: 5 * pageBytes, as: UInt8.self) == expectedByte(5 * pageBytes))
          }
          hasLeft.withLock { $0 = true }
        }
      }
    }
    isIn.wait()
    #expect(region.holders.count == 1)
    // The closure keeps the region open, but pins no page.
    #expect(region.core.pins.count == 0)
    let closer = TestThread {
      region.close()
      #expect(hasLeft.withLock { $0 })
    }
    #expect(eventually { region.isClosed })
    #expect(throws: FaultRuntimeError.self) { try region.prefetch(0..<1) }
    mayGo.open()
    #expect(user.join())
    #expect(closer.join())
    #expect(region.holders.count == 0)
  }

  /// Makes a region in a child process that exits with 42 if it traps.
  private static func regionOfTrap(
    access: RegionOptions.Access = .readWrite, closeTimeout: Duration = .seconds(5)
  ) throws -> LazyRegion {
    let region = try SafeAccessTests().region(access: access, closeTimeout: closeTimeout)
    for number in [SIGILL, SIGTRAP] { signal(number) { _ in _exit(42) } }
    return region
  }

  @Test("What is not within the region traps")
  func outside() async {
    await #expect(processExitsWith: .exitCode(42)) {
      let region = try Self.regionOfTrap()
      _ = region.load(fromByteOffset: region.byteCount - 1, as: UInt16.self)
    }
    await #expect(processExitsWith: .exitCode(42)) {
      let region = try Self.regionOfTrap()
      _ = region.load(fromByteOffset: -1, as: UInt8.self)
    }
    await #expect(processExitsWith: .exitCode(42)) {
      let region = try Self.regionOfTrap()
      region.withBytes { bytes in _ = bytes.load(fromByteOffset: .max, as: UInt8.self) }
    }
    await #expect(processExitsWith: .exitCode(42)) {
      let region = try Self.regionOfTrap()
      region.store(UInt16(1), toByteOffset: region.byteCount - 1)
    }
    await #expect(processExitsWith: .exitCode(42)) {
      let region = try Self.regionOfTrap()
      region.store(UInt8(1), toByteOffset: .min)
    }
    await #expect(processExitsWith: .exitCode(42)) {
      let region = try Self.regionOfTrap()
      _ = try region.read(0..<7, as: UInt32.self)
    }
  }

  @Test("A value of which one byte is not within the region is not stored, and the message says so")
  func storedOutside() async {
    let behind = await #expect(processExitsWith: .exitCode(42), observing: [\.standardErrorContent]) {
      let region = try Self.regionOfTrap()
      region.store(UInt16(1), toByteOffset: region.byteCount - 1)
    }
    let before = await #expect(processExitsWith: .exitCode(42), observing: [\.standardErrorContent]) {
      let region = try Self.regionOfTrap()
      region.store(UInt8(1), toByteOffset: -1)
    }
    for result in [behind, before] {
      #expect(result.errors.contains("LazyRegion: a value that is not within the region"))
    }
  }

  @Test("Writing to a read-only region traps, and so does any use after closing")
  func forbidden() async {
    await #expect(processExitsWith: .exitCode(42)) {
      let region = try Self.regionOfTrap(access: .readOnly)
      region.store(UInt8(1), toByteOffset: 0)
    }
    await #expect(processExitsWith: .exitCode(42)) {
      let region = try Self.regionOfTrap(access: .readOnly)
      region.withMutableBytes { bytes in _ = bytes.byteCount }
    }
    await #expect(processExitsWith: .exitCode(42)) {
      let region = try Self.regionOfTrap(access: .readOnly)
      try region.withMutableResident(0..<1) { bytes in _ = bytes.byteCount }
    }
    await #expect(processExitsWith: .exitCode(42)) {
      let region = try Self.regionOfTrap()
      region.close()
      region.withBytes { bytes in _ = bytes.byteCount }
    }
    await #expect(processExitsWith: .exitCode(42)) {
      let region = try Self.regionOfTrap()
      region.close()
      _ = region.load(fromByteOffset: 0, as: UInt8.self)
    }
  }

  @Test("A thread that was inside when closing gave up waiting is not let in again")
  func insideTooLong() async {
    await #expect(processExitsWith: .exitCode(42)) {
      let region = try Self.regionOfTrap(closeTimeout: .milliseconds(1))
      region.withBytes { _ in
        // This waits for the closure itself, until the timeout.
        region.close()
        region.withBytes { bytes in _ = bytes.byteCount }
      }
    }
  }

  // MARK: Checked access

  @Test("A resident range is what was asked for, to read and to write")
  func resident() throws {
    let region = try region()
    let range = (pageBytes - 2)..<(3 * pageBytes + 7)
    let count = try region.withResident(range) { bytes in
      for offset in [0, 1, 2, range.count - 4] {
        #expect(
          bytes.load(fromByteOffset: offset, as: UInt32.self).littleEndian == expected(range.lowerBound + offset))
      }
      #expect(region.core.pins.intersects(range))
      #expect(!region.core.pins.intersects(0..<range.lowerBound))
      #expect(!region.core.pins.intersects(range.upperBound..<region.byteCount))
      return bytes.byteCount
    }
    #expect(count == range.count)
    try region.withMutableResident(range) { bytes in
      bytes.storeBytes(of: 0x0102_0304, toByteOffset: 0, as: UInt32.self)
    }
    #expect(region.load(fromByteOffset: range.lowerBound, as: UInt32.self) == 0x0102_0304)
    #expect(region.core.pins.count == 0)
  }

  @Test("A closure that throws nothing leaves the runtime's error alone; others pass their own on")
  func errors() throws {
    let region = try region(bad: 2)
    func typed(_ body: () throws(FaultRuntimeError) -> Void) -> FaultRuntimeError? {
      do throws(FaultRuntimeError) { try body() } catch { return error }
      return nil
    }
    let pages = 0..<(4 * pageBytes)
    let found = [
      typed { () throws(FaultRuntimeError) in try region.withResident(pages) { _ in } },
      typed { () throws(FaultRuntimeError) in try region.withMutableResident(pages) { _ in } },
      typed { () throws(FaultRuntimeError) in try region.forEachPiece(of: pages) { _, _ in } },
      typed { () throws(FaultRuntimeError) in _ = try region.read(pages, as: UInt32.self) },
      typed { () throws(FaultRuntimeError) in
        try region.write([UInt64](repeating: 0, count: pageBytes), as: UInt64.self)
      },
    ]
    for error in found {
      #expect(error?.code == .pageFailed)
      #expect(error?.failure?.offset == 2 * pageBytes)
    }
    #expect(throws: Bad.self) { try region.withResident(0..<1) { _ in throw Bad() } }
    #expect(throws: Bad.self) { try region.withMutableResident(0..<1) { _ in throw Bad() } }
    #expect(throws: Bad.self) { try region.forEachPiece(of: 0..<1) { _, _ in throw Bad() } }
    // An error that the closure throws is passed on, also if it has the type of the runtime's errors.
    let inner = typed { () throws(FaultRuntimeError) in
      try region.withResident(0..<1) { (_) throws(FaultRuntimeError) in try region.prefetch(pages) }
    }
    #expect(inner?.failure?.offset == 2 * pageBytes)
    #expect(region.core.pins.count == 0)
  }

  @Test("Pieces are the whole range, in order, as spans", arguments: [1, 3])
  func pieces(pagesEach: Int) throws {
    let region = try region()
    let range = 7..<(6 * pageBytes + 9)
    var next = range.lowerBound
    try region.forEachPiece(of: range, byteCount: pagesEach * pageBytes) { bytes, offset in
      #expect(offset == next)
      for index in [0, bytes.byteCount - 1] {
        #expect(bytes.load(fromByteOffset: index, as: UInt8.self) == expectedByte(offset + index))
      }
      next += bytes.byteCount
    }
    #expect(next == range.upperBound)
    for page in 0..<9 { #expect(!region.isResident(page * pageBytes)) }
  }

  @Test("Arrays of values are read and written, aligned or not")
  func arrays() throws {
    let region = try region()
    let range = (pageBytes - 3)..<(pageBytes - 3 + 4 * 1000)
    let values = try region.read(range, as: UInt32.self)
    #expect(values.map(\.littleEndian) == (0..<1000).map { expected(range.lowerBound + 4 * $0) })
    #expect(try region.read(0..<0, as: Double.self) == [])
    let numbers = (0..<600).map { Double($0) / 3 }
    try region.write(numbers, as: Double.self, at: 2 * pageBytes - 5)
    #expect(try region.read((2 * pageBytes - 5)..<(2 * pageBytes - 5 + 4800), as: Double.self) == numbers)
    try region.write([1, 2], as: Int16.self, at: 0)
    #expect(try region.read(0..<4).count == 4)
    #expect(try region.read(0..<4, as: Int16.self) == [1, 2])
    #expect(throws: FaultRuntimeError.self) { try region.read(-4..<0, as: Int32.self) }
    #expect(throws: FaultRuntimeError.self) {
      try region.write([1], as: Int64.self, at: region.byteCount - 7)
    }
  }

  // MARK: What is known of failures

  @Test("The failures of a region and those of its pages are the same, and a page that came is still one that failed")
  func failures() throws {
    let isBroken = Atomic<Bool>(true)
    let region = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop)).map(
      ClosureProvider(requestSize: RequestSize(preferred: 1, largest: 1)) { _, _ in
        if isBroken.load(ordering: .relaxed) { throw Refused() }
        return .zero
      }, byteCount: 100 * pageBytes, options: RegionOptions(advice: .random))
    for page in 0..<100 {
      #expect(throws: FaultRuntimeError.self) { try region.prefetch((page * pageBytes)..<(page * pageBytes + 1)) }
    }
    #expect(region.failures.isEmpty)
    for page in 0..<100 {
      region.core.report(Refused(), atPage: region.core.range.start + UInt(page * pageBytes), to: nil)
    }
    #expect(region.failures.map(\.offset) == (0..<100).map { $0 * pageBytes })
    for failure in region.failures { #expect(region.failure(at: failure.offset)?.cause is Refused) }
    isBroken.store(false, ordering: .relaxed)
    try region.retry(0..<pageBytes)
    #expect(region.failure(at: 0) == nil)
    #expect(region.failures.count == 100)
    #expect(region.failure(at: -1) == nil)
    #expect(region.failure(at: 1) == nil)
    #expect(region.failure(at: 100 * pageBytes) == nil)
  }
}
