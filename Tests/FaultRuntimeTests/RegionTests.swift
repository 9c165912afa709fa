import CTestSupport
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Regions over each provider", .timeLimit(.minutes(6)))
struct RegionTests {
  private let runtime: FaultRuntime
  init() throws { runtime = try FaultRuntime() }

  static let lengths = [1, 100, pageBytes - 1, pageBytes, pageBytes + 1, 3 * pageBytes, 40 * pageBytes + 777]

  /// Touches bytes in random order, then compares every byte, and then checks the tail.
  private func check(_ region: LazyRegion, byteCount: Int, seed: Int = 0, zero: Bool = false) {
    #expect(region.byteCount == byteCount)
    #expect(region.bytes.byteCount == byteCount)
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<50 {
      let offset = Int.random(in: 0..<byteCount, using: &generator)
      #expect(region.access(offset) == .byte(zero ? 0 : expectedByte(offset, seed: seed)))
    }
    if zero {
      let bytes = region.bytes
      var found = 0
      for offset in 0..<byteCount where unsafe bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self) != 0 {
        found += 1
      }
      #expect(found == 0)
    } else {
      #expect(mismatches(in: region, seed: seed) == [])
    }
    #expect(tailIsZero(region))
    #expect(region.failures.isEmpty)
  }

  @Test("A file", arguments: lengths)
  func file(byteCount: Int) throws {
    let file = try TemporaryFile(bytes: expectedBytes(0..<byteCount))
    check(try runtime.map(FileProvider(file.path)), byteCount: byteCount)
  }

  @Test("A file, one page for a request", arguments: lengths)
  func fileByPage(byteCount: Int) throws {
    let file = try TemporaryFile(bytes: expectedBytes(0..<byteCount))
    check(try runtime.map(FileProvider(file.path, requestSize: .singlePage)), byteCount: byteCount)
  }

  @Test("Memory that was copied", arguments: lengths)
  func memory(byteCount: Int) throws {
    check(try runtime.map(MemoryProvider(copying: expectedBytes(0..<byteCount))), byteCount: byteCount)
  }

  @Test("Memory that is borrowed, at an odd address", arguments: lengths)
  func borrowedMemory(byteCount: Int) throws {
    let bytes = [0] + expectedBytes(0..<byteCount)
    try unsafe bytes.withUnsafeBytes { raw in
      let provider = unsafe MemoryProvider(borrowing: UnsafeRawBufferPointer(rebasing: raw[1...]))
      let region = try runtime.map(provider)
      check(region, byteCount: byteCount)
      region.close()
    }
  }

  @Test("Zero", arguments: lengths)
  func zero(byteCount: Int) throws {
    check(try runtime.map(ZeroProvider(), byteCount: byteCount), byteCount: byteCount, zero: true)
  }

  @Test("A closure, in requests of several sizes", arguments: [1, 4 * pageBytes, 64 * pageBytes])
  func closure(preferred: Int) throws {
    for byteCount in Self.lengths {
      let provider = patternProvider(seed: 3, requestSize: RequestSize(preferred: preferred, largest: preferred))
      check(try runtime.map(provider, byteCount: byteCount), byteCount: byteCount, seed: 3)
    }
  }

  @Test("A request never passes the exact end of the region, and never the largest size")
  func requestBounds() throws {
    let requests = Requests()
    let byteCount = 10 * pageBytes + 5
    let region = try runtime.map(
      ClosureProvider(requestSize: RequestSize(preferred: 4 * pageBytes, largest: 4 * pageBytes)) { request, page in
        requests.add(request)
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: byteCount)
    #expect(region.access(10 * pageBytes) == .byte(1))
    #expect(region.access(0) == .byte(1))
    #expect(
      requests.all == [
        PageRequest(offset: 8 * pageBytes, byteCount: 2 * pageBytes + 5),
        PageRequest(offset: 0, byteCount: 4 * pageBytes),
      ])
  }

  @Test(
    "What a request left in the buffer never shows in another region",
    arguments: Delivery.ofRegions)
  func noLeftovers(delivery: Delivery) throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
    func filled(_ byte: UInt8, _ byteCount: Int) throws -> LazyRegion {
      try runtime.map(
        ClosureProvider(permissions: .inSignalHandler) { request, page in
          page.append(repeating: byte, count: request.byteCount)
          return .filled
        }, byteCount: byteCount)
    }
    // The region has ten bytes. The runtime must clear the rest of the page, each time after another region has
    // filled the buffer.
    let lent = try runtime.map(MemoryProvider(copying: [UInt8](repeating: 2, count: 10)))
    #expect(try filled(0xee, pageBytes).access(0) == .byte(0xee))
    #expect(lent.access(9) == .byte(2))
    #expect(tailIsZero(lent))
    let short = try filled(1, 10)
    #expect(try filled(0xee, pageBytes).access(0) == .byte(0xee))
    #expect(short.access(9) == .byte(1))
    #expect(tailIsZero(short))
  }

  @Test("Written bytes stay, and the provider is not asked again")
  func writing() throws {
    let requests = Requests()
    let region = try runtime.map(
      ClosureProvider { request, page in
        requests.add(request)
        page.append(request.range.lazy.map { expectedByte($0) })
        return .filled
      }, byteCount: 4 * pageBytes)
    #expect(write(0x55, to: region.address + 7) == .byte(0x55))
    #expect(region.access(7) == .byte(0x55))
    #expect(region.access(8) == .byte(expectedByte(8)))
    #expect(requests.all.count == 1)
  }

  @Test("A write to a zero page is one fault, and reads back")
  func writingZero() throws {
    let region = try runtime.map(ClosureProvider { _, _ in .zero }, byteCount: 2 * pageBytes)
    #expect(write(9, to: region.address) == .byte(9))
    #expect(region.access(0) == .byte(9))
    #expect(region.access(1) == .byte(0))
    #expect(runtime.statistics.faults == 1)
  }

  @Test("A read-only region refuses writes")
  func readOnly() throws {
    let region = try runtime.map(
      patternProvider(), byteCount: pageBytes, options: RegionOptions(access: .readOnly))
    #expect(region.access(0) == .byte(expectedByte(0)))
    #expect(write(1, to: region.address) == .signal(SIGSEGV))
    #expect(region.access(0) == .byte(expectedByte(0)))
  }

  @Test("Nothing is read before a touch")
  func lazy() throws {
    let region = try runtime.map(patternProvider(), byteCount: 100 * pageBytes)
    #expect(runtime.statistics == FaultStatistics())
    #expect(region.access(50 * pageBytes) == .byte(expectedByte(50 * pageBytes)))
    #expect(runtime.statistics.bytesFilled == pageBytes)
    #expect(runtime.statistics.faults == 1)
  }

  @Test("A region far larger than memory can be mapped and touched here and there")
  func largerThanMemory() throws {
    let region = try runtime.map(patternProvider(), byteCount: 1 << 40)
    for offset in [0, 1 << 39, (1 << 40) - 1, 123_456_789_012] {
      #expect(region.access(offset) == .byte(expectedByte(offset)))
    }
  }

  @Test("The span keeps the region mapped while it is used")
  func spanKeepsRegion() throws {
    func firstAndLast() throws -> (UInt8, UInt8) {
      let region = try runtime.map(patternProvider(), byteCount: 5 * pageBytes)
      let bytes = region.bytes
      return unsafe (
        bytes.unsafeLoad(fromByteOffset: 0, as: UInt8.self),
        bytes.unsafeLoad(fromByteOffset: 5 * pageBytes - 1, as: UInt8.self)
      )
    }
    let (first, last) = try firstAndLast()
    #expect(first == expectedByte(0))
    #expect(last == expectedByte(5 * pageBytes - 1))
    #expect(runtime.regionCount == 0)
  }

  @Test("A region outlives the runtime's handle")
  func outlivesRuntime() throws {
    var runtime: FaultRuntime? = try FaultRuntime()
    let region = try #require(runtime).map(patternProvider(), byteCount: pageBytes)
    runtime = nil
    #expect(region.access(3) == .byte(expectedByte(3)))
  }

  @Test("Regions are dealt out to the handler threads, and each serves its own")
  func severalHandlers() throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(handlerThreads: 3))
    let regions = try (0..<7).map { try runtime.map(patternProvider(seed: $0), byteCount: 3 * pageBytes) }
    for (seed, region) in regions.enumerated() { #expect(mismatches(in: region, seed: seed) == []) }
    #expect(Set(regions.map(\.descriptorNumber)).count == 3)
    #expect(runtime.statistics.faults == 21)
  }

  @Test(
    "System calls are served where the descriptor allows it",
    .enabled(if: Host.kernelModeFaults, SkipReason.kernelModeFaults))
  func kernelMode() throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(descriptorChoice: .only(.full)))
    let region = try runtime.map(patternProvider(), byteCount: 8 * pageBytes)
    var copy = [UInt8](repeating: 0, count: 3 * pageBytes)
    let written = unsafe cts_write_to_pipe(region.address + 100, copy.count, &copy)
    #expect(written == copy.count)
    #expect(copy == expectedBytes(100..<(100 + copy.count)))
  }

  @Test("A user-mode-only descriptor serves user code, and system calls get EFAULT")
  func userModeOnly() throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(descriptorChoice: .only(.userModeOnly)))
    #expect(runtime.descriptor == .userModeOnly)
    let region = try runtime.map(patternProvider(), byteCount: 2 * pageBytes)
    var copy = [UInt8](repeating: 0, count: 10)
    #expect(unsafe cts_write_to_pipe(region.address, 10, &copy) == Int(-EFAULT))
    #expect(region.access(0) == .byte(expectedByte(0)))
    #expect(unsafe cts_write_to_pipe(region.address, 10, &copy) == 10)
    #expect(copy == expectedBytes(0..<10))
  }

  // The threads of other tests may hold locks of Swift's runtime, so a process of its own forks.
  @Test("A forked child cannot map: it would take the parent's pages away")
  func forkedChildMaps() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime()
      let region = try runtime.map(patternProvider(), byteCount: 2 * pageBytes)
      let context = unsafe Unmanaged.passUnretained(runtime)
      let code = unsafe cts_forked(
        { context in
          cts_end_after(20)
          let runtime = unsafe Unmanaged<FaultRuntime>.fromOpaque(context).takeUnretainedValue()
          do throws(FaultRuntimeError) {
            _ = try runtime.map(ZeroProvider(), byteCount: 2 * pageBytes)
            return 1
          } catch {
            return error.code == .forkedChild ? 42 : 2
          }
        }, context.toOpaque())
      #expect(code == 42)
      #expect(mismatches(in: region) == [])
    }
  }

  @Test("A region dropped in a forked child stays whole in the parent")
  func forkedChildDrops() async {
    await #expect(processExitsWith: .success) {
      let region = try FaultRuntime().map(patternProvider(), byteCount: 2 * pageBytes)
      let context = unsafe Unmanaged.passUnretained(region)
      let code = unsafe cts_forked(
        { context in
          cts_end_after(20)
          let region = unsafe Unmanaged<LazyRegion>.fromOpaque(context).takeUnretainedValue()
          // The child has other memory at the address of the parent's region, and the descriptor acts on the parent's
          // memory.
          let address = unsafe UnsafeMutableRawPointer(bitPattern: region.core.range.start)
          let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
          guard unsafe mmap(address, 2 * pageBytes, PROT_READ | PROT_WRITE, flags, -1, 0) == address else { return 1 }
          region.close()
          return 42
        }, context.toOpaque())
      #expect(code == 42)
      #expect(!region.isClosed)
      #expect(mismatches(in: region) == [])
    }
  }

  @Test("Memory that is locked from now on does not turn a region into zeros")
  func lockedMemory() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime()
      // An ordinary user may lock a little memory, which is enough for a small region.
      guard cts_lock_future_memory() == 0 else { return }
      let region = try runtime.map(patternProvider(), byteCount: 2 * pageBytes)
      #expect(region.access(0) == .byte(expectedByte(0)))
      #expect(mismatches(in: region) == [])
      #expect(runtime.statistics.faults == 2)
    }
  }

  @Test("All runtimes know a region while it is open, so that none maps over a hole in it", arguments: [false, true])
  func knownToAll(explainsFailures: Bool) throws {
    for delivery in Delivery.ofRegions {
      let runtime = try FaultRuntime(
        FaultRuntimeConfiguration(delivery: delivery, explainsFailures: explainsFailures, onNotice: { _ in }))
      let region = try runtime.map(patternProvider(inFaultingThread: true), byteCount: 3 * pageBytes)
      let page = AddressRange(start: region.address + UInt(pageBytes), byteCount: pageBytes)
      #expect(AddressSpace.ofThisProcess.regions.intersects(page))
      region.close()
      #expect(!AddressSpace.ofThisProcess.regions.intersects(page))
    }
  }

  @Test("When a region is gone, its addresses are free, and not before")
  func unmapping() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime()
      let address: UInt
      do {
        let region = try runtime.map(patternProvider(), byteCount: 3 * pageBytes)
        address = region.address
        #expect(region.access(0) == .byte(expectedByte(0)))
        #expect(cts_is_mapped(address, 3 * pageBytes) == 1)
        region.close()
        #expect(cts_is_mapped(address, 3 * pageBytes) == 1)
        #expect(read(address) == .signal(SIGSEGV))
      }
      for page in 0..<3 { #expect(cts_is_mapped(address + UInt(page * pageBytes), pageBytes) == 0) }
    }
  }

  @Test("A forked child cannot read the region, neither zeros nor bytes")
  func forkedChild() throws {
    let region = try runtime.map(patternProvider(), byteCount: 2 * pageBytes)
    #expect(touchInChild(region.address) == -SIGSEGV)
    #expect(region.access(0) == .byte(expectedByte(0)))
    // The child cannot read the pages that are resident in the parent either.
    #expect(touchInChild(region.address) == -SIGSEGV)
    #expect(mismatches(in: region) == [])
  }
}
