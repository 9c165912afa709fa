import CTestSupport
import CUFFD
import Glibc
import Synchronization
import Testing

@testable import FaultRuntime

private struct Refused: Error, Equatable {}

@Suite("Faults that the faulting thread answers itself", .timeLimit(.minutes(3)))
struct SigbusTests {
  private let runtime: FaultRuntime
  init() throws { runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigbus)) }

  // MARK: Right bytes

  @Test("Each provider that permits it", arguments: [1, pageBytes - 1, pageBytes + 1, 40 * pageBytes + 777])
  func providers(byteCount: Int) throws {
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
      #expect(region.delivery == .sigbus)
      #expect(mismatches(in: region) == [])
      #expect(tailIsZero(region))
      #expect(region.failures.isEmpty)
    }
    let zero = try runtime.map(ZeroProvider(), byteCount: byteCount)
    #expect(write(3, to: zero.address) == .byte(3))
    #expect((1..<byteCount).allSatisfy { zero.access($0) == .byte(0) })
    #expect(runtime.regionCount == 5)
  }

  @Test("A unit larger than a slot of the staging pool")
  func largeUnit() throws {
    let unit = 1 << 20
    let region = try runtime.map(
      patternProvider(requestSize: RequestSize(preferred: unit, largest: unit), inFaultingThread: true),
      byteCount: unit + 5)
    #expect(region.access(unit - 1) == .byte(expectedByte(unit - 1)))
    #expect(region.access(unit + 4) == .byte(expectedByte(unit + 4)))
    #expect(runtime.statistics.faults == 2)
  }

  @Test("Threads on overlapping pages all read the right bytes", arguments: [1, 2, 4, 8, 16])
  func overlappingPages(threadCount: Int) throws {
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

  @Test("Regions come and go while other threads fault")
  func churn() throws {
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

  @Test("A provider may touch lazy memory of another region")
  func nested() throws {
    let inner = try runtime.map(patternProvider(seed: 5, inFaultingThread: true), byteCount: 4 * pageBytes)
    let middle = try runtime.map(copying(inner), byteCount: 4 * pageBytes)
    let outer = try runtime.map(copying(middle), byteCount: 4 * pageBytes)
    #expect(mismatches(in: outer, seed: 5) == [])
    #expect(runtime.statistics.faults == 12)
  }

  @Test("A provider on a handler thread may touch lazy memory that is answered in the faulting thread")
  func nestedInHandlerThread() throws {
    let inner = try runtime.map(patternProvider(seed: 6, inFaultingThread: true), byteCount: 2 * pageBytes)
    let loop = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop))
    let outer = try loop.map(copying(inner), byteCount: 2 * pageBytes)
    #expect(mismatches(in: outer, seed: 6) == [])
  }

  private func copying(_ source: LazyRegion) -> ClosureProvider {
    ClosureProvider(requestSize: .singlePage, mayRunInFaultingThread: true) { request, page in
      page.append(source.bytes.extracting(request.range))
      return .filled
    }
  }

  @Test("A page that somebody else filled first is as good")
  func alreadyPresent() throws {
    let other = Scratch(pages: 1)
    other.fill(0x33)
    let own = Requests()
    let box = RegionBox()
    let region = try runtime.map(
      ClosureProvider(mayRunInFaultingThread: true) { request, page in
        own.add(request)
        // Faster than this very answer.
        try box.region!.fillBehindItsBack(request.offset / pageBytes, from: other)
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: 2 * pageBytes)
    box.region = region
    #expect(region.access(pageBytes) == .byte(0x33))
    #expect(own.all.count == 1)
    #expect(runtime.statistics.pagesAlreadyPresent == 1)
    #expect(runtime.statistics.bytesFilled == 0)
    box.region = nil
  }

  // Safe to share: written before the region is touched, and after.
  private final class RegionBox: @unchecked Sendable { var region: LazyRegion? }

  // MARK: Failures

  @Test(
    "An error fails the page that was touched, and no other",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison), arguments: [1, 8 * pageBytes])
  func failure(preferred: Int) throws {
    let reported = Requests()
    let runtime = try FaultRuntime(
      FaultRuntimeConfiguration(
        delivery: .sigbus, onFailure: { reported.add(PageRequest(offset: $0.offset, byteCount: $0.byteCount)) }))
    let region = try runtime.map(
      ClosureProvider(
        requestSize: RequestSize(preferred: preferred, largest: preferred), mayRunInFaultingThread: true
      ) { request, page in
        if request.range.contains(5 * pageBytes) { throw Refused() }
        page.append(request.range.lazy.map { expectedByte($0) })
        return .filled
      }, byteCount: 16 * pageBytes, options: RegionOptions(name: "five"))
    #expect(region.access(5 * pageBytes + 7) == .signal(SIGBUS))
    for index in 0..<16 where index != 5 {
      #expect(region.access(index * pageBytes) == .byte(expectedByte(index * pageBytes)))
    }
    #expect(region.access(5 * pageBytes) == .signal(SIGBUS))
    #expect(region.failures.first?.cause as? Refused == Refused())
    #expect(reported.all.first == PageRequest(offset: 5 * pageBytes, byteCount: pageBytes))
  }

  @Test("Lent memory that cannot be read is an error")
  func lentUnreadable() throws {
    let scratch = Scratch(pages: 1)
    #expect(cuffd_protect_none(UInt64(scratch.range.start), pageBytes) == 0)
    let region = try runtime.map(
      ClosureProvider(mayRunInFaultingThread: true) { _, _ in
        unsafe .lent(UnsafeRawBufferPointer(start: scratch.pointer, count: pageBytes))
      }, byteCount: pageBytes)
    #expect(region.access(0) == .signal(SIGBUS))
    #expect(region.failures.first?.cause as? ResolutionError == .refused(.badAddress))
  }

  @Test("Closing while threads touch: the right byte or a signal, never zeros")
  func closeUnderTouches() throws {
    for round in 0..<40 {
      let region = try runtime.map(patternProvider(seed: round, inFaultingThread: true), byteCount: 200 * pageBytes)
      let address = region.address
      let wrong = Atomic<Int>(0)
      let started = Atomic<Int>(0)
      let threads = (0..<2).map { index in
        TestThread {
          for page in 0..<200 {
            let offset = (page * 7 + index) % 200 * pageBytes
            switch read(address + UInt(offset)) {
            case .byte(expectedByte(offset, seed: round)): started.wrappingAdd(1, ordering: .relaxed)
            case .signal(SIGSEGV), .signal(SIGBUS): return
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
  }

  @Test("System calls get EFAULT, and are served when the configuration asks for it")
  func systemCalls() throws {
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

  @Test("A provider that does not permit it is refused when nothing else may be used")
  func forbidden() throws {
    let error = #expect(throws: FaultRuntimeError.self) { try runtime.map(patternProvider(), byteCount: 1) }
    #expect(error?.code == .providerForbidsDelivery)
    for configuration in [
      FaultRuntimeConfiguration(delivery: .sigbus, needsSystemCalls: true),
      FaultRuntimeConfiguration(needsSystemCalls: true, descriptor: .only(.userModeOnly)),
    ] {
      let error = #expect(throws: FaultRuntimeError.self) { try FaultRuntime(configuration) }
      #expect(error?.code == .invalidConfiguration)
    }
  }

  // MARK: The signal

  @Test("errno is kept")
  func errnoIsKept() throws {
    let region = try runtime.map(
      ClosureProvider(mayRunInFaultingThread: true) { request, page in
        errno = EDOM
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: 1)
    #expect(cts_errno_after_read(region.address, 12345) == 12345)
    #expect(runtime.statistics.faults == 1)
  }

  @Test("While a fault is answered other signals wait, and faults do not")
  func signalMask() throws {
    let waiting = Guarded<[CInt]>([])
    let region = try runtime.map(
      ClosureProvider(mayRunInFaultingThread: true) { request, page in
        var mask = sigset_t()
        unsafe pthread_sigmask(SIG_BLOCK, nil, &mask)
        let blocked = [SIGUSR1, SIGTERM, SIGALRM, SIGBUS, SIGSEGV].filter { unsafe sigismember(&mask, $0) == 1 }
        waiting.withLock { $0 = blocked }
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: 1)
    #expect(region.access(0) == .byte(1))
    #expect(waiting.withLock { $0 } == [SIGUSR1, SIGTERM, SIGALRM])
  }

  @Test("The handler that was there before gets the mask and the flags that it asked for")
  func flagsOfPredecessor() async {
    for kind in [CTS_PLAIN, CTS_NODEFER, CTS_RESETHAND] {
      await #expect(processExitsWith: kind == CTS_RESETHAND ? .signal(SIGBUS) : .success) {
        [number = kind.rawValue as UInt32] in
        #expect(cts_take_sigbus_as(cts_taker(rawValue: number), SIGUSR1) == 0)
        let region = try FaultRuntime().map(ZeroProvider(), byteCount: pageBytes)
        #expect(region.access(0) == .byte(0))
        #expect(read(cts_page_behind_end_of_file()) == .signal(100 + SIGBUS))
        #expect(cts_was_blocked(SIGUSR1) == 1)
        #expect(cts_was_blocked(SIGBUS) == (cts_taker(rawValue: number) == CTS_NODEFER ? 0 : 1))
        // With SA_RESETHAND it is gone after the first.
        #expect(read(cts_page_behind_end_of_file()) == .signal(100 + SIGBUS))
      }
    }
  }

  @Test("Staging memory is used again, and never by two at a time")
  func stagingPool() throws {
    let pool = try #require(StagingPool())
    let slots = Guarded<[UInt]>([])
    // On one CPU, because each has slots of its own.
    let thread = TestThread {
      #expect(cts_run_on_cpu(cuffd_current_cpu()) == 0)
      for _ in 0..<200 {
        try? unsafe pool.withBytes(pageBytes) { outer in
          let first = UInt(bitPattern: outer.baseAddress)
          try unsafe pool.withBytes(pageBytes) { inner in
            let second = UInt(bitPattern: inner.baseAddress)
            slots.withLock { $0 += [first, second] }
          }
        }
      }
    }
    #expect(thread.join())
    #expect(Set(slots.withLock { $0 }).count == 2)
  }

  @Test("A touch while the region is being closed fails, and asks nobody")
  func touchWhileClosing() throws {
    let asked = Requests()
    let region = try runtime.map(
      ClosureProvider(mayRunInFaultingThread: true) { request, page in
        asked.add(request)
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: 2 * pageBytes)
    #expect(region.access(0) == .byte(1))
    let address = region.address
    #expect(region.core.beginClosing())
    #expect(read(address + UInt(pageBytes)) == .signal(SIGBUS))
    #expect(read(address) == .byte(1))
    #expect(region.failures.first?.cause as? ResolutionError == .regionClosed)
    #expect(asked.all.count == 1)
    region.server.close(region.core)
    #expect(read(address) == .signal(SIGSEGV))
  }

  @Test("A SIGBUS that is not about lazy memory reaches the handler that was there before")
  func foreignSignal() throws {
    let region = try runtime.map(patternProvider(inFaultingThread: true), byteCount: pageBytes)
    let foreign = cts_page_behind_end_of_file()
    try #require(foreign != 0)
    for _ in 0..<3 { #expect(read(foreign) == .signal(SIGBUS)) }
    #expect(region.access(0) == .byte(expectedByte(0)))
    _ = cuffd_unmap(UInt64(foreign), pageBytes)
  }

  @Test("A program that ignores SIGBUS still ignores one that was sent, and dies of its own")
  func ignored() async {
    await #expect(processExitsWith: .signal(SIGBUS)) {
      signal(SIGBUS, SIG_IGN)
      let region = try FaultRuntime().map(ZeroProvider(), byteCount: pageBytes)
      raise(SIGBUS)
      #expect(unsafe region.unsafeBytes[0] == 0)
      let foreign = cts_page_behind_end_of_file()
      _ = cts_errno_after_read(foreign, 0)
    }
  }

  @Test("A program without a handler dies of a SIGBUS that was sent, and of one of its own")
  func defaultAction() async {
    await #expect(processExitsWith: .signal(SIGBUS)) {
      signal(SIGBUS, SIG_DFL)
      let region = try FaultRuntime().map(ZeroProvider(), byteCount: pageBytes)
      #expect(unsafe region.unsafeBytes[0] == 0)
      raise(SIGBUS)
    }
    await #expect(processExitsWith: .signal(SIGBUS)) {
      signal(SIGBUS, SIG_DFL)
      let region = try FaultRuntime().map(ZeroProvider(), byteCount: pageBytes)
      #expect(unsafe region.unsafeBytes[0] == 0)
      _ = cts_errno_after_read(cts_page_behind_end_of_file(), 0)
    }
  }

  @Test("A handler without siginfo is called as well")
  func plainHandler() async {
    await #expect(processExitsWith: .success) {
      #expect(cts_take_sigbus(0, 0) == 0)
      let region = try FaultRuntime().map(ZeroProvider(), byteCount: pageBytes)
      #expect(region.access(0) == .byte(0))
      #expect(cts_taken_count() == 0)
      #expect(read(cts_page_behind_end_of_file()) == .signal(100 + SIGBUS))
      #expect(cts_taken_count() == 1)
    }
  }

  @Test(
    "Somebody who takes the signal later and passes it on leaves everything working, without going round in circles")
  func laterHandlerThatChains() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime()
      let first = try runtime.map(ZeroProvider(), byteCount: pageBytes)
      #expect(cts_take_sigbus(1, 1) == 0)
      #expect(first.access(0) == .byte(0))
      #expect(cts_taken_count() == 1)
      // The next region puts us first again, with the other one behind, who still calls us.
      let second = try runtime.map(ZeroProvider(), byteCount: pageBytes)
      #expect(second.access(0) == .byte(0))
      #expect(cts_taken_count() == 1)
      // Ours, theirs, ours again, and then the oldest, which is the test's own.
      #expect(read(cts_page_behind_end_of_file()) == .signal(SIGBUS))
      #expect(cts_taken_count() == 2)
      #expect(read(cts_page_behind_end_of_file()) == .signal(SIGBUS))
      #expect(cts_taken_count() == 3)
    }
  }

  @Test("Somebody who takes the signal and keeps it loses it at the next map")
  func laterHandlerThatKeeps() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime()
      _ = try runtime.map(ZeroProvider(), byteCount: pageBytes)
      for _ in 0..<40 {
        #expect(cts_take_sigbus(0, 1) == 0)
        let region = try runtime.map(ZeroProvider(), byteCount: pageBytes)
        #expect(region.access(0) == .byte(0))
      }
      #expect(cts_taken_count() == 0)
      #expect(read(cts_page_behind_end_of_file()) == .signal(100 + SIGBUS))
    }
  }

  @Test("A stack may be lazy, where the thread has another one for signals")
  func lazyStack() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime()
      let stack = try runtime.map(ZeroProvider(), byteCount: 256 << 10)
      #expect(cts_on_lazy_stack(stack.address, stack.byteCount) == 42)
      #expect(runtime.statistics.faults >= 1)
    }
  }

  /// Calls `body` with at least so much more of the stack in use.
  @inline(never)
  private static func deep(_ levels: Int, _ body: () -> Access) -> Access {
    guard levels > 0 else { return body() }
    return withExtendedLifetime(InlineArray<64, Int>(repeating: levels)) { _ in deep(levels - 1, body) }
  }

  @Test("A handler that jumped out of a provider leaves nothing behind that a later fault is taken for")
  func jumpedOut() throws {
    let place = Guarded<UInt>(0)
    let bad = try runtime.map(
      ClosureProvider(requestSize: .singlePage, mayRunInFaultingThread: true) { _, _ in throw Refused() },
      byteCount: pageBytes)
    place.withLock { $0 = bad.address }
    let left = try runtime.map(
      ClosureProvider(requestSize: .singlePage, mayRunInFaultingThread: true) { request, page in
        // Not a checked read: whoever handles the signal jumps over this provider.
        let byte = unsafe UnsafePointer<UInt8>(bitPattern: place.withLock { $0 })!.pointee
        page.append(repeating: byte, count: request.byteCount)
        return .filled
      }, byteCount: pageBytes)
    let good = try runtime.map(patternProvider(inFaultingThread: true), byteCount: pageBytes)
    let thread = TestThread {
      #expect(Self.deep(20) { left.access(0) } == .signal(SIGBUS))
      #expect(Self.deep(10) { good.access(0) } == .byte(expectedByte(0)))
      #expect(unsafe madvise(UnsafeMutableRawPointer(bitPattern: good.address), pageBytes, MADV_DONTNEED) == 0)
      #expect(Self.deep(40) { good.access(0) } == .byte(expectedByte(0)))
    }
    #expect(thread.join())
    #expect(good.failures.isEmpty)
  }

  @Test("A child's runtime serves its regions where its parent had some")
  func childOfItsOwn() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigbus))
      let regions = try (0..<16).map { _ in
        try runtime.map(patternProvider(inFaultingThread: true), byteCount: 1 << 30)
      }
      for region in regions { #expect(region.access(0) == .byte(expectedByte(0))) }
      let result = unsafe cts_forked(
        { _ in
          alarm(20)
          guard let runtime = try? FaultRuntime(FaultRuntimeConfiguration(delivery: .sigbus)) else { return 1 }
          for _ in 0..<16 {
            guard
              let region = try? runtime.map(
                patternProvider(seed: 1, inFaultingThread: true), byteCount: 1 << 30)
            else { return 2 }
            for offset in stride(from: 0, to: 1 << 30, by: 1 << 26) {
              guard region.access(offset) == .byte(expectedByte(offset, seed: 1)) else { return 3 }
            }
            // Its place stays taken until the child's end.
            _ = unsafe Unmanaged.passRetained(region)
          }
          return 0
        }, UnsafeMutableRawPointer(bitPattern: 1)!)
      #expect(result == 0)
    }
  }
}
