import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Memory that is guarded by its protection", .timeLimit(.minutes(6)))
struct SigsegvTests {
  private func runtime() throws -> FaultRuntime { try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigsegv)) }

  // MARK: What the program sees

  @Test("It has no descriptor, and leaves none open")
  func descriptors() async {
    await #expect(processExitsWith: .success) {
      let before = descriptorKinds()
      var regions: [LazyRegion] = []
      // Swift's concurrency runtime opens a few descriptors at any time.
      for _ in 0..<10 {
        let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigsegv))
        let region = try runtime.map(patternProvider(inFaultingThread: true), byteCount: 4 * pageBytes)
        #expect(region.delivery == .sigsegv)
        #expect(region.descriptor == nil)
        #expect(runtime.descriptor == nil)
        #expect(mismatches(in: region) == [])
        regions.append(region)
      }
      let after = descriptorKinds()
      for (kind, count) in after { #expect(count - before[kind, default: 0] < 10, "\(kind): \(before), \(after)") }
    }
  }

  @Test("Nobody sees a page before it is complete")
  func noHalfPages() throws {
    let runtime = try runtime()
    let unit = 16 * pageBytes
    let pages = 512
    let region = try runtime.map(
      patternProvider(requestSize: RequestSize(preferred: unit, largest: unit), inFaultingThread: true),
      byteCount: pages * pageBytes)
    let wrong = Atomic<Int>(0)
    // The provider writes the first byte of a page first and the last byte last. The readers therefore look at the
    // last byte.
    let threads = (0..<4).map { index in
      TestThread {
        for step in 0..<pages {
          let page = index % 2 == 0 ? step : pages - 1 - step
          let offset = (page + 1) * pageBytes - 1
          if region.access(offset) != .byte(expectedByte(offset)) { wrong.wrappingAdd(1, ordering: .relaxed) }
        }
      }
    }
    for thread in threads { #expect(thread.join()) }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(runtime.statistics.bytesFilled == pages * pageBytes)
  }

  @Test("What was written stays, also when the program discards the page")
  func written() throws {
    let region = try runtime().map(patternProvider(inFaultingThread: true), byteCount: 4 * pageBytes)
    #expect(write(7, to: region.address + 5) == .byte(7))
    #expect(unsafe madvise(UnsafeMutableRawPointer(bitPattern: region.address), pageBytes, MADV_DONTNEED) == 0)
    #expect(region.access(5) == .byte(7))
    #expect(region.access(6) == .byte(expectedByte(6)))
  }

  @Test("A write to a read-only region is SIGSEGV, and asks nobody")
  func readOnly() throws {
    let runtime = try runtime()
    let region = try runtime.map(
      patternProvider(inFaultingThread: true), byteCount: 2 * pageBytes, options: RegionOptions(access: .readOnly))
    #expect(write(1, to: region.address) == .signal(SIGSEGV))
    #expect(runtime.statistics.requests == 0)
    #expect(region.access(0) == .byte(expectedByte(0)))
    #expect(write(1, to: region.address) == .signal(SIGSEGV))
    #expect(region.failures.isEmpty)
  }

  @Test("A page that has failed is not asked for again before somebody retries it")
  func failedOnce() throws {
    let requests = Requests()
    let region = try runtime().map(
      ClosureProvider(requestSize: .singlePage, permissions: .inSignalHandler) { request, _ in
        requests.add(request)
        throw Refused()
      }, byteCount: pageBytes)
    for _ in 0..<3 { #expect(region.access(0) == .signal(SIGSEGV)) }
    #expect(requests.all.count == 1)
    #expect(throws: FaultRuntimeError.self) { try region.retry(0..<pageBytes) }
    #expect(requests.all.count == 2)
  }

  @Test("Access that the program has taken away itself is its own affair, and no endless loop")
  func ownProtection() throws {
    let region = try runtime().map(patternProvider(inFaultingThread: true), byteCount: 2 * pageBytes)
    #expect(region.access(0) == .byte(expectedByte(0)))
    #expect(cuffd_protect_none(UInt64(region.address), pageBytes) == 0)
    #expect(region.access(0) == .signal(SIGSEGV))
    #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
    #expect(region.failures.isEmpty)
  }

  @Test("Memory that the program has unmapped fails, and the rest goes on")
  func unmapped() throws {
    let region = try runtime().map(patternProvider(inFaultingThread: true), byteCount: 4 * pageBytes)
    let address = region.address
    #expect(cuffd_unmap(UInt64(address) + UInt64(pageBytes), pageBytes) == 0)
    #expect(read(address + UInt(pageBytes)) == .signal(SIGSEGV))
    #expect(read(address + UInt(2 * pageBytes)) == .byte(expectedByte(2 * pageBytes)))
    region.close()
    for page in 0..<4 { #expect(read(address + UInt(page * pageBytes)) == .signal(SIGSEGV)) }
  }

  @Test(
    "Where the kernel has no mapping left, closing takes away also what lies behind a part that the program unmapped",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func unmappedWithoutMappings() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime(.byProtection)
      let region = try runtime.map(patternProvider(inFaultingThread: true), byteCount: 16 * pageBytes)
      let address = region.address
      try region.prefetch((2 * pageBytes)..<(10 * pageBytes))
      _ = cts_use_up_mappings()
      // Only now, because other memory would come into the gap. At the start of a mapping, this takes none.
      guard cuffd_unmap(UInt64(address) + UInt64(2 * pageBytes), pageBytes) == 0 else { _exit(1) }
      region.close()
      for page in 0..<16 where read(address + UInt(page * pageBytes)) != .signal(SIGSEGV) { _exit(2) }
      _exit(0)
    }
  }

  @Test("A forked child has none of it, open or not")
  func forked() throws {
    let region = try runtime().map(patternProvider(inFaultingThread: true), byteCount: 2 * pageBytes)
    #expect(region.access(0) == .byte(expectedByte(0)))
    #expect(touchInChild(region.address) == -SIGSEGV)
    #expect(touchInChild(region.address + UInt(pageBytes)) == -SIGSEGV)
    #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
  }

  @Test("A forked child asks no provider for the memory that it does not have", arguments: [0, 1])
  func forkedUnasked(page: Int) async {
    // The threads of other tests may hold locks of Swift's runtime, so a process of its own forks.
    await #expect(processExitsWith: .success) { [page] in
      let parent = getpid()
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigsegv))
      let region = try runtime.map(
        ClosureProvider(requestSize: .singlePage, permissions: .inSignalHandler) { request, page in
          if getpid() != parent { _exit(101) }
          page.append(expectedBytes(request.range))
          return .filled
        }, byteCount: 2 * pageBytes)
      #expect(region.access(0) == .byte(expectedByte(0)))
      // The child keeps the signal handlers, so that the fault comes to the runtime there.
      let result = unsafe cts_forked(
        { address in
          cts_end_after(20)
          return read(UInt(bitPattern: address)) == .signal(SIGSEGV) ? 42 : 43
        }, UnsafeMutableRawPointer(bitPattern: region.address + UInt(page * pageBytes))!)
      #expect(result == 42)
    }
  }

  @Test("A fault that comes after the access was taken away for good is not served, known or not")
  func revoked() throws {
    let requests = Requests()
    let region = try runtime().map(
      ClosureProvider(requestSize: .singlePage, permissions: .inSignalHandler) { request, page in
        requests.add(request)
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 2 * pageBytes)
    #expect(region.access(0) == .byte(expectedByte(0)))
    // Closing goes on by taking the region out of the table. A fault can come before that.
    #expect(region.core.memory.revokeAccess())
    let server = try #require(region.server as? SigsegvServer)
    for page in 0..<2 {
      let fault = PendingFault(page: region.address + UInt(page * pageBytes), isWrite: false)
      guard case .somebodyElses = server.judge(fault, of: region.core) else {
        Issue.record("page \(page) is served")
        continue
      }
      #expect(region.access(page * pageBytes) == .signal(SIGSEGV))
    }
    #expect(requests.all.count == 1)
  }

  #if DEBUG
    @Test("A page that can be used is known to be there, also while whoever opens it has not said so yet")
    func opening() throws {
      let region = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigsegv)).map(
        patternProvider(requestSize: .singlePage, inFaultingThread: true), byteCount: 2 * pageBytes)
      let isOpen = Atomic<Bool>(false)
      let goesOn = Atomic<Bool>(false)
      let hasRead = Atomic<Bool>(false)
      let found = Monitor<[UInt8]>([])
      let twin = try #require(region.twin)
      twin.afterOpening.withLock {
        $0 = {
          isOpen.store(true, ordering: .releasing)
          while !goesOn.load(ordering: .acquiring) { sched_yield() }
        }
      }
      let toucher = TestThread { #expect(region.access(9) == .byte(expectedByte(9))) }
      #expect(eventually { isOpen.load(ordering: .acquiring) })
      #expect(write(77, to: region.address + 100) == .byte(77))
      let reader = TestThread {
        let bytes = Monitor<[UInt8]>([])
        try? unsafe region.forEachUnsafePiece(of: 0..<pageBytes) { piece, _ in
          bytes.withLock { $0 = unsafe Array(piece) }
        }
        found.withLock { $0 = bytes.withLock { $0 } }
        hasRead.store(true, ordering: .releasing)
      }
      // Long enough for a reader that does not wait.
      let patience = ContinuousClock.now + .milliseconds(200)
      while !hasRead.load(ordering: .acquiring), ContinuousClock.now < patience { sched_yield() }
      goesOn.store(true, ordering: .releasing)
      #expect(toucher.join())
      #expect(reader.join())
      let bytes = found.withLock { $0 }
      #expect(bytes.count == pageBytes && bytes[100] == 77 && bytes[101] == expectedByte(101))
    }
  #endif

  @Test(
    "Memory that the program wants locked from now on is neither locked nor filled",
    // Other users may lock little memory, and after that their mappings fail.
    .enabled(if: getuid() == 0, SkipReason.root))
  func locked() async {
    await #expect(processExitsWith: .success) {
      #expect(cts_lock_future_memory() == 0)
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigsegv))
      let region = try runtime.map(patternProvider(inFaultingThread: true), byteCount: 64 << 20)
      // Other mappings may be locked meanwhile, such as a thread's stack and its heap.
      let mappings = Mapping.all.filter { $0.line.contains("/memfd:fault-runtime") }
      #expect(mappings.count == 2)
      #expect(!mappings.contains { $0.flags.contains("lo") })
      #expect(mappings.reduce(0) { $0 + ($1.byteCounts["Rss"] ?? 0) } < 1 << 20)
      #expect(region.access(5) == .byte(expectedByte(5)))
    }
  }

  // MARK: Where there is no userfaultfd

  @Test("auto does without a userfaultfd, says so once, and the bytes are right")
  func fallback() async {
    let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
      #expect(cts_hide_userfaultfd(EPERM) == 0)
      let runtime = try FaultRuntime()
      let choice = runtime.deliveryChoice(for: ZeroProvider())
      #expect(choice.delivery == .sigsegv)
      #expect(choice.reason.contains("user-mode-only: EPERM"))
      for seed in 0..<3 {
        let region = try runtime.map(patternProvider(seed: seed, inFaultingThread: true), byteCount: 20 * pageBytes)
        #expect(region.delivery == .sigsegv)
        #expect(mismatches(in: region, seed: seed) == [])
      }
      #expect(runtime.statistics.faults > 0)
    }
    let text = result.errors
    let said = text.split(separator: "\n").filter { $0.hasPrefix("FaultRuntime:") }
    #expect(said.count == 1)
    #expect(said.first?.contains("sigsegv") == true)
    // What would help depends on the machine; `ContainerTests` checks it.
    #expect(said.first?.contains("; remedy: ") == true)
    #expect(said.first.map { $0.count <= 240 } == true)
  }

  @Test("What cannot be done without a userfaultfd is an error that says what to do")
  func refusals() async {
    await #expect(processExitsWith: .success) {
      #expect(cts_hide_userfaultfd(EPERM) == 0)
      for configuration in [
        FaultRuntimeConfiguration(needsSystemCalls: true), FaultRuntimeConfiguration(delivery: .eventLoop),
        FaultRuntimeConfiguration(delivery: .sigbus), FaultRuntimeConfiguration(descriptorChoice: .only(.device)),
      ] {
        let error = #expect(throws: FaultRuntimeError.self) { try FaultRuntime(configuration) }
        #expect(error?.code == .userfaultfdUnavailable)
        #expect(error?.advice != nil)
      }
      let notes = Monitor(0)
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(onNotice: { _ in notes.withLock { $0 += 1 } }))
      #expect(notes.withLock { $0 } == 1)
      let late = #expect(throws: FaultRuntimeError.self) {
        try runtime.map(ZeroProvider(), byteCount: 1, options: RegionOptions(timeout: .seconds(1)))
      }
      #expect(late?.code == .providerForbidsDelivery)
      #expect(late?.advice?.contains("without a timeout") == true)
    }
  }
}
