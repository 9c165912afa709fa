import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Faults that the faulting thread answers itself", .timeLimit(.minutes(6)))
struct InThreadTests {
  private func runtime(_ delivery: Delivery) throws -> FaultRuntime {
    try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
  }

  // MARK: Right bytes

  @Test(
    "Each provider that permits it", arguments: [1, pageBytes - 1, pageBytes + 1, 40 * pageBytes + 777],
    Delivery.inFaultingThread)
  func providers(byteCount: Int, delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let expected = expectedBytes(0..<byteCount)
    let file = try TemporaryFile(bytes: expected)
    let regions = [
      try runtime.map(FileProvider(file.path)), try runtime.map(MemoryProvider(copying: expected)),
      try runtime.map(patternProvider(inFaultingThread: true), byteCount: byteCount),
      try runtime.map(
        patternProvider(
          requestSize: RequestSize(preferred: 8 * pageBytes, largest: 8 * pageBytes), inFaultingThread: true),
        byteCount: byteCount),
    ]
    for region in regions {
      #expect(region.delivery == delivery)
      #expect(mismatches(in: region) == [])
      #expect(tailIsZero(region))
      #expect(region.failures.isEmpty)
    }
    let zero = try runtime.map(ZeroProvider(), byteCount: byteCount)
    #expect(write(3, to: zero.address) == .byte(3))
    #expect((1..<byteCount).allSatisfy { zero.access($0) == .byte(0) })
    #expect(runtime.regionCount == 5)
  }

  @Test("A unit larger than a slot of the staging pool", arguments: Delivery.inFaultingThread)
  func largeUnit(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let unit = 1 << 20
    let region = try runtime.map(
      patternProvider(requestSize: RequestSize(preferred: unit, largest: unit), inFaultingThread: true),
      byteCount: unit + 5)
    #expect(region.access(unit - 1) == .byte(expectedByte(unit - 1)))
    #expect(region.access(unit + 4) == .byte(expectedByte(unit + 4)))
    #expect(runtime.statistics.faults == 2)
  }

  @Test(
    "Threads on overlapping pages all read the right bytes", arguments: [1, 2, 4, 8, 16], Delivery.inFaultingThread)
  func overlappingPages(threadCount: Int, delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let pages = 60
    let region = try runtime.map(
      patternProvider(
        requestSize: RequestSize(preferred: 2 * pageBytes, largest: 2 * pageBytes), inFaultingThread: true),
      byteCount: pages * pageBytes)
    let wrong = Atomic<Int>(0)
    let threads = (0..<threadCount).map { index in
      TestThread {
        for step in 0..<pages {
          let offset = (step * [7, 11, 13, 17][index % 4] + index) % pages * pageBytes + index
          if region.access(offset) != .byte(expectedByte(offset)) { wrong.wrappingAdd(1, ordering: .relaxed) }
        }
      }
    }
    for thread in threads { #expect(thread.join()) }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(region.failures.isEmpty)
    let statistics = runtime.statistics
    #expect(statistics.bytesFilled == pages * pageBytes)
  }

  @Test("Regions come and go while other threads fault", arguments: Delivery.inFaultingThread)
  func churn(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let lasting = try runtime.map(patternProvider(seed: 1, inFaultingThread: true), byteCount: 2000 * pageBytes)
    let wrong = Atomic<Int>(0)
    let reader = TestThread {
      for page in 0..<2000 where lasting.access(page * pageBytes) != .byte(expectedByte(page * pageBytes, seed: 1)) {
        wrong.wrappingAdd(1, ordering: .relaxed)
      }
    }
    let churners = (0..<2).map { index in
      TestThread { [runtime] in
        for round in 0..<200 {
          let seed = 10 + index * 1000 + round
          guard
            let region = try? runtime.map(patternProvider(seed: seed, inFaultingThread: true), byteCount: 3 * pageBytes)
          else { return wrong.store(1000, ordering: .relaxed) }
          if region.access(pageBytes + 1) != .byte(expectedByte(pageBytes + 1, seed: seed)) {
            wrong.wrappingAdd(1, ordering: .relaxed)
          }
        }
      }
    }
    for thread in churners + [reader] { #expect(thread.join()) }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(runtime.regionCount == 1)
  }

  @Test("A provider may touch lazy memory of another region", arguments: Delivery.inFaultingThread)
  func nested(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let inner = try runtime.map(patternProvider(seed: 5, inFaultingThread: true), byteCount: 4 * pageBytes)
    let middle = try runtime.map(copying(inner), byteCount: 4 * pageBytes)
    let outer = try runtime.map(copying(middle), byteCount: 4 * pageBytes)
    #expect(mismatches(in: outer, seed: 5) == [])
    #expect(runtime.statistics.faults == 12)
  }

  @Test(
    "A provider on a handler thread may touch lazy memory that is answered in the faulting thread",
    arguments: Delivery.inFaultingThread)
  func nestedInHandlerThread(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let inner = try runtime.map(patternProvider(seed: 6, inFaultingThread: true), byteCount: 2 * pageBytes)
    let loop = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop))
    let outer = try loop.map(copying(inner), byteCount: 2 * pageBytes)
    #expect(mismatches(in: outer, seed: 6) == [])
  }

  private func copying(_ source: LazyRegion) -> ClosureProvider {
    ClosureProvider(requestSize: .singlePage, permissions: .inSignalHandler) { request, page in
      page.append(source.bytes.extracting(request.range))
      return .filled
    }
  }

  @Test("A page that somebody else filled first is as good", arguments: Delivery.inFaultingThread)
  func alreadyPresent(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let other = Scratch(pages: 1)
    other.fill(0x33)
    let own = Requests()
    let box = Monitor<LazyRegion?>(nil)
    let region = try runtime.map(
      ClosureProvider(permissions: .inSignalHandler) { request, page in
        own.add(request)
        // The page is filled in another way before this answer is placed.
        try box.withLock { $0 }!.fillBehindItsBack(request.offset / pageBytes, from: other)
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: 2 * pageBytes)
    box.withLock { $0 = region }
    #expect(region.access(pageBytes) == .byte(0x33))
    #expect(own.all.count == 1)
    #expect(runtime.statistics.pagesAlreadyPresent == 1)
    #expect(runtime.statistics.bytesFilled == 0)
    box.withLock { $0 = nil }
  }

  // MARK: Failures

  @Test(
    "An error fails the page that was touched, and no other",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison), arguments: [1, 8 * pageBytes],
    Delivery.inFaultingThread)
  func failure(preferred: Int, delivery: Delivery) throws {
    let reported = Requests()
    let runtime = try FaultRuntime(
      FaultRuntimeConfiguration(
        delivery: delivery, onFailure: { reported.add(PageRequest(offset: $0.offset, byteCount: $0.byteCount)) }))
    let region = try runtime.map(
      ClosureProvider(
        requestSize: RequestSize(preferred: preferred, largest: preferred), permissions: .inSignalHandler
      ) { request, page in
        if request.range.contains(5 * pageBytes) { throw Refused() }
        page.append(request.range.lazy.map { expectedByte($0) })
        return .filled
      }, byteCount: 16 * pageBytes, options: RegionOptions(name: "five"))
    #expect(region.access(5 * pageBytes + 7) == .signal(delivery.signal))
    for index in 0..<16 where index != 5 {
      #expect(region.access(index * pageBytes) == .byte(expectedByte(index * pageBytes)))
    }
    #expect(region.access(5 * pageBytes) == .signal(delivery.signal))
    #expect(region.failures.first?.cause as? Refused == Refused())
    #expect(reported.all.first == PageRequest(offset: 5 * pageBytes, byteCount: pageBytes))
  }

  @Test("Lent memory that cannot be read is an error", arguments: Delivery.inFaultingThread)
  func lentUnreadable(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let scratch = Scratch(pages: 1)
    #expect(cuffd_protect_none(UInt64(scratch.range.start), pageBytes) == 0)
    let region = try runtime.map(
      ClosureProvider(permissions: .inSignalHandler) { _, _ in
        unsafe .lent(UnsafeRawBufferPointer(start: scratch.pointer, count: pageBytes))
      }, byteCount: pageBytes)
    #expect(region.access(0) == .signal(delivery.signal))
    #expect(region.failures.first?.cause as? ResolutionError == .refused(.badAddress))
  }

  @Test("Closing while threads touch: the right byte or a signal, never zeros", arguments: Delivery.inFaultingThread)
  func closeUnderTouches(delivery: Delivery) throws {
    struct Trace { weak var core: Region? }
    let runtime = try runtime(delivery)
    var traces: [Trace] = []
    for round in 0..<40 {
      let region = try runtime.map(patternProvider(seed: round, inFaultingThread: true), byteCount: 200 * pageBytes)
      traces.append(Trace(core: region.core))
      let address = region.address
      let wrong = Atomic<Int>(0)
      let started = Atomic<Int>(0)
      let threads = (0..<2).map { index in
        TestThread {
          for page in 0..<200 {
            let offset = (page * 7 + index) % 200 * pageBytes
            switch read(address + UInt(offset)) {
            case .byte(expectedByte(offset, seed: round)): started.wrappingAdd(1, ordering: .relaxed)
            case .signal(SIGSEGV), .signal(delivery.signal): return
            default: wrong.wrappingAdd(1, ordering: .relaxed)
            }
          }
        }
      }
      #expect(eventually { started.load(ordering: .relaxed) > round * 5 % 100 })
      region.close()
      for thread in threads { #expect(thread.join()) }
      #expect(wrong.load(ordering: .relaxed) == 0)
      #expect(read(address) == .signal(SIGSEGV))
    }
    #expect(runtime.regionCount == 0)
    // The last thread that used a region has released it, in a signal handler or here.
    #expect(traces.allSatisfy { $0.core == nil })
  }

  @Test(
    "System calls get EFAULT, and are served when the configuration asks for it", arguments: Delivery.inFaultingThread)
  func systemCalls(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let region = try runtime.map(patternProvider(inFaultingThread: true), byteCount: pageBytes)
    var copy = [UInt8](repeating: 0, count: 4)
    #expect(unsafe cts_write_to_pipe(region.address, 4, &copy) == Int(-EFAULT))
    #expect(region.access(0) == .byte(expectedByte(0)))
    #expect(unsafe cts_write_to_pipe(region.address, 4, &copy) == 4)
    guard Host.kernelModeFaults else { return }
    let serving = try FaultRuntime(FaultRuntimeConfiguration(needsSystemCalls: true))
    let served = try serving.map(patternProvider(inFaultingThread: true), byteCount: pageBytes)
    #expect(served.delivery == .eventLoop)
    #expect(unsafe cts_write_to_pipe(served.address, 4, &copy) == 4)
  }

  // MARK: The choice

  @Test("auto picks by provider and need, and says why")
  func choice() throws {
    let auto = try FaultRuntime()
    #expect(auto.deliveryChoice(for: ZeroProvider()).delivery == .sigbus)
    let closure = auto.deliveryChoice(for: patternProvider())
    #expect(closure.delivery == .eventLoop)
    #expect(closure.reason.contains("does not permit"))
    #expect(try auto.map(ZeroProvider(), byteCount: 1).delivery == .sigbus)
    #expect(try auto.map(patternProvider(), byteCount: 1).delivery == .eventLoop)
    let loop = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop))
    #expect(try loop.map(ZeroProvider(), byteCount: 1).delivery == .eventLoop)
  }

  @Test("What nothing else may be used for is refused", arguments: Delivery.inFaultingThread)
  func forbidden(delivery: Delivery) throws {
    if delivery == .sigbus {
      let error = #expect(throws: FaultRuntimeError.self) {
        try runtime(delivery).map(patternProvider(), byteCount: 1)
      }
      #expect(error?.code == .providerForbidsDelivery)
    }
    for configuration in [
      FaultRuntimeConfiguration(delivery: delivery, needsSystemCalls: true),
      FaultRuntimeConfiguration(needsSystemCalls: true, descriptorChoice: .only(.userModeOnly)),
    ] {
      let error = #expect(throws: FaultRuntimeError.self) { try FaultRuntime(configuration) }
      #expect(error?.code == .invalidConfiguration)
    }
  }
}
