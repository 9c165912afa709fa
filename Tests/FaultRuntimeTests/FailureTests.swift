import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

private struct RefusedPage: Error, Equatable { var page: Int }

@Suite(
  "When a page cannot be produced", .timeLimit(.minutes(6)),
  .enabled(if: Host.features.contains(.poison), SkipReason.poison))
struct FailureTests {
  /// The failures that the hook received.
  private let failures = Log<PageFailure>()
  private let runtime: FaultRuntime

  init() throws {
    runtime = try FaultRuntime(
      FaultRuntimeConfiguration(handlerThreads: 1, onFailure: { [failures] in failures.add($0) }))
  }

  private func expectOneFailure(
    of region: LazyRegion, at offset: Int, _ cause: some Error & Equatable,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    for reported in [region.failures, failures.all] {
      #expect(reported.count == 1, sourceLocation: sourceLocation)
      guard let failure = reported.first else { continue }
      #expect(failure.region == region.name, sourceLocation: sourceLocation)
      #expect(failure.offset == offset, sourceLocation: sourceLocation)
      #expect(failure.byteCount == pageBytes, sourceLocation: sourceLocation)
      #expect("\(failure.cause)" == "\(cause)", sourceLocation: sourceLocation)
    }
    #expect(runtime.statistics.pagesFailed == 1, sourceLocation: sourceLocation)
  }

  @Test("A provider that throws on one page fails that page alone", arguments: [1, 8 * pageBytes])
  func oneBadPage(preferred: Int) throws {
    let provider = ClosureProvider(requestSize: RequestSize(preferred: preferred, largest: 16 * pageBytes)) {
      request, page in
      if request.range.contains(5 * pageBytes) { throw RefusedPage(page: 5) }
      page.append(request.range.lazy.map { expectedByte($0) })
      return .filled
    }
    let region = try runtime.map(provider, byteCount: 16 * pageBytes, options: RegionOptions(name: "five"))
    #expect(region.access(5 * pageBytes + 100) == .signal(SIGBUS))
    for index in 0..<16 where index != 5 {
      #expect(region.access(index * pageBytes + 1) == .byte(expectedByte(index * pageBytes + 1)))
    }
    // The page stays failed, and the provider is not asked again.
    #expect(region.access(5 * pageBytes) == .signal(SIGBUS))
    expectOneFailure(of: region, at: 5 * pageBytes, RefusedPage(page: 5))
    #expect(region.failures[0].description.contains("region 'five', page at offset \(5 * pageBytes)"))
  }

  @Test("All threads that wait for a bad page are released")
  func manyWaiters() throws {
    let gate = Gate()
    let region = try runtime.map(
      ClosureProvider { _, _ in
        gate.wait()
        throw RefusedPage(page: 0)
      }, byteCount: pageBytes)
    let threads = (0..<8).map { index in TestThread { #expect(region.access(index) == .signal(SIGBUS)) } }
    #expect(eventually { waiters(on: region.descriptorNumber).all == 8 })
    gate.open()
    for thread in threads { #expect(thread.join()) }
    expectOneFailure(of: region, at: 0, RefusedPage(page: 0))
  }

  @Test(
    "A system call that meets a bad page gets EFAULT", .enabled(if: Host.kernelModeFaults, SkipReason.kernelModeFaults))
  func systemCall() throws {
    let serving = try FaultRuntime(FaultRuntimeConfiguration(needsSystemCalls: true))
    let region = try serving.map(ClosureProvider { _, _ in throw RefusedPage(page: 0) }, byteCount: pageBytes)
    var copy = [UInt8](repeating: 0, count: 8)
    #expect(unsafe cts_write_to_pipe(region.address, 8, &copy) == Int(-EFAULT))
    #expect(region.failures.count == 1)
  }

  @Test("Without a handler for SIGBUS, the access ends the program")
  func unhandled() async {
    await #expect(processExitsWith: .signal(SIGBUS)) {
      // The sanitizers have a handler of their own.
      signal(SIGBUS, SIG_DFL)
      let region = try FaultRuntime().map(ClosureProvider { _, _ in throw RefusedPage(page: 0) }, byteCount: pageBytes)
      let bytes = region.bytes
      print(unsafe bytes.unsafeLoad(fromByteOffset: 0, as: UInt8.self))
    }
  }

  // MARK: Answers that are none

  @Test("An answer that is too short fails the pages that it leaves out, and keeps those that it has")
  func tooShort() throws {
    let provider = ClosureProvider(requestSize: RequestSize(preferred: 4 * pageBytes, largest: 4 * pageBytes)) {
      request, page in
      // The provider answers with at most the first two and a half pages of the region.
      let end = min(request.range.upperBound, 2 * pageBytes + pageBytes / 2)
      if request.offset < end { page.append((request.offset..<end).lazy.map { expectedByte($0) }) }
      return .filled
    }
    let region = try runtime.map(provider, byteCount: 4 * pageBytes)
    #expect(region.access(0) == .byte(expectedByte(0)))
    #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
    #expect(runtime.statistics.requests == 1)
    // Half of a page is not a page. The other half would hold other data, or zeros that the provider did not supply.
    #expect(region.access(2 * pageBytes) == .signal(SIGBUS))
    expectOneFailure(
      of: region, at: 2 * pageBytes, ResolutionError.answerTooShort(produced: pageBytes / 2, wanted: pageBytes))
    #expect(region.access(3 * pageBytes) == .signal(SIGBUS))
  }

  @Test("An empty answer is too short")
  func empty() throws {
    let region = try runtime.map(ClosureProvider { _, _ in .filled }, byteCount: 10)
    #expect(region.access(0) == .signal(SIGBUS))
    expectOneFailure(of: region, at: 0, ResolutionError.answerTooShort(produced: 0, wanted: 10))
  }

  @Test("Memory that is shorter than its region fails behind its end")
  func shortMemory() throws {
    let provider = MemoryProvider(copying: expectedBytes(0..<(2 * pageBytes)))
    let region = try runtime.map(provider, byteCount: 4 * pageBytes)
    #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
    #expect(region.access(2 * pageBytes) == .signal(SIGBUS))
    expectOneFailure(
      of: region, at: 2 * pageBytes, MemoryProvider.OutOfBounds(offset: 2 * pageBytes, available: 2 * pageBytes))
  }

  @Test("Lending more than was asked for is an error")
  func lentTooLong() throws {
    let scratch = Scratch(pages: 2)
    let region = try runtime.map(
      ClosureProvider { _, _ in
        unsafe .lent(UnsafeRawBufferPointer(start: scratch.pointer, count: 2 * pageBytes))
      }, byteCount: pageBytes)
    #expect(region.access(0) == .signal(SIGBUS))
    expectOneFailure(
      of: region, at: 0, ResolutionError.answerTooLong(produced: 2 * pageBytes, wanted: pageBytes))
  }

  @Test("Lending memory that cannot be read is an error, not a crash")
  func lentUnreadable() throws {
    let scratch = Scratch(pages: 1)
    #expect(cuffd_protect_none(UInt64(scratch.range.start), pageBytes) == 0)
    let region = try runtime.map(
      ClosureProvider { _, _ in
        unsafe .lent(UnsafeRawBufferPointer(start: scratch.pointer, count: pageBytes))
      }, byteCount: pageBytes)
    #expect(region.access(0) == .signal(SIGBUS))
    expectOneFailure(of: region, at: 0, ResolutionError.refused(.badAddress))
  }

  @Test("Lending memory that has been unmapped to a prefetch of huge pages is an error, not a crash")
  func lentUnmappedHuge() async {
    // The process is a new one, so that no other test maps memory at the lent addresses.
    await #expect(processExitsWith: .success) {
      let huge = max(Int(cuffd_huge_page_size()), pageBytes)
      let scratch = Scratch(pages: 2 * huge / pageBytes)
      scratch.fill(6)
      let bad = huge + 3 * pageBytes
      let runtime = try FaultRuntime()
      let region = try runtime.map(
        ClosureProvider(requestSize: RequestSize(preferred: pageBytes, largest: huge)) { request, _ in
          unsafe .lent(UnsafeRawBufferPointer(start: scratch.pointer + request.offset, count: request.byteCount))
        }, byteCount: 2 * huge)
      #expect(cuffd_unmap(UInt64(scratch.page(bad / pageBytes).start), pageBytes) == 0)
      let error = #expect(throws: FaultRuntimeError.self) { try region.populate() }
      #expect(error?.failure?.offset == bad)
      #expect(error?.failure?.cause as? ResolutionError == .refused(.badAddress))
      #expect(region.access(bad - 1) == .byte(6))
      #expect(region.access(bad + pageBytes) == .byte(6))
      #expect(region.access(bad) == .signal(SIGBUS))
    }
  }

  @Test("Whether there is memory is known to the byte")
  func isMapped() {
    let scratch = Scratch(pages: 3)
    #expect(cuffd_is_mapped(UInt64(scratch.range.start), 3 * pageBytes))
    #expect(cuffd_is_mapped(UInt64(scratch.range.start) + 5, 3 * pageBytes - 5))
    #expect(cuffd_is_mapped(UInt64(scratch.range.start), 0))
    #expect(!cuffd_is_mapped(UInt64.max - 10, 5))
    #expect(!cuffd_is_mapped(UInt64.max - 10, 50))
    #expect(!cuffd_is_mapped(0, pageBytes))
  }

  @Test("Lending lazy memory of the same runtime is refused, because the copy would wait for itself")
  func lentLazy() throws {
    let inner = try runtime.map(patternProvider(), byteCount: pageBytes)
    let outer = try runtime.map(
      ClosureProvider { _, _ in unsafe .lent(inner.unsafeBytes) }, byteCount: pageBytes)
    #expect(outer.access(0) == .signal(SIGBUS))
    expectOneFailure(of: outer, at: 0, ResolutionError.lentLazyMemory)
    #expect(inner.access(0) == .byte(expectedByte(0)))
  }

  @Test(
    "Lending memory where no program has any is an error, not a crash",
    arguments: [UInt.max / 2 + 1, UInt.max - UInt(pageBytes) + 1])
  func lentNowhere(start: UInt) throws {
    let region = try runtime.map(
      ClosureProvider { request, _ in
        unsafe .lent(UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: start), count: request.byteCount))
      }, byteCount: pageBytes)
    #expect(region.access(0) == .signal(SIGBUS))
    let cause = region.failures.first?.cause as? ResolutionError
    // Older kernels check the address only when they read from it.
    #expect(cause == .refused(.invalidArgument) || cause == .refused(.badAddress))
    #expect(region.failures.count == 1)
  }

  @Test("Lending a last page that cannot be read is an error, not a crash")
  func lentUnreadableTail() throws {
    let scratch = Scratch(pages: 2)
    scratch.fill(6)
    #expect(cuffd_protect_none(UInt64(scratch.page(1).start), pageBytes) == 0)
    let region = try runtime.map(
      ClosureProvider { request, _ in
        unsafe .lent(UnsafeRawBufferPointer(start: scratch.pointer + request.offset, count: request.byteCount))
      }, byteCount: pageBytes + 10)
    #expect(region.access(0) == .byte(6))
    #expect(region.access(pageBytes) == .signal(SIGBUS))
    expectOneFailure(of: region, at: pageBytes, ResolutionError.refused(.badAddress))
  }

  @Test(
    "Lazy memory of another runtime may be lent, where system calls are served",
    .enabled(if: Host.kernelModeFaults, SkipReason.kernelModeFaults))
  func lentLazyOfAnother() throws {
    let inner = try FaultRuntime(FaultRuntimeConfiguration(descriptorChoice: .only(.full)))
      .map(patternProvider(), byteCount: pageBytes)
    let outer = try runtime.map(
      ClosureProvider { _, _ in unsafe .lent(inner.unsafeBytes) }, byteCount: pageBytes)
    #expect(outer.access(7) == .byte(expectedByte(7)))
  }

  // MARK: Files

  @Test("A file that is truncated while it is mapped fails behind its new end, and reads no zeros")
  func truncated() throws {
    let file = try TemporaryFile(bytes: expectedBytes(0..<(8 * pageBytes)))
    let region = try runtime.map(FileProvider(file.path, requestSize: .singlePage))
    #expect(region.access(7 * pageBytes) == .byte(expectedByte(7 * pageBytes)))
    #expect(unsafe truncate(file.path, off_t(2 * pageBytes + 10)) == 0)
    #expect(region.access(0) == .byte(expectedByte(0)))
    #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
    #expect(region.access(2 * pageBytes) == .signal(SIGBUS))
    #expect(region.access(7 * pageBytes) == .byte(expectedByte(7 * pageBytes)))
    let error = try #require(region.failures.first?.cause as? FileProviderError)
    #expect(error.code == .truncated)
    #expect(error.path == file.path)
    #expect(error.offset == 2 * pageBytes + 10)
    #expect(error.description.contains("was truncated"))
  }

  // MARK: Closing

  @Test("Closing releases the threads that wait, without zeros, and without waiting for the touch")
  func closeWithWaiters() throws {
    let gate = Gate()
    let blocking = try runtime.map(
      ClosureProvider(permissions: .onHandler) { request, page in
        gate.wait()
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: pageBytes)
    let region = try runtime.map(patternProvider(), byteCount: 8 * pageBytes)
    let address = region.address
    let descriptor = region.descriptorNumber
    // The handler is blocked by another region, so these faults are still unread in its queue when closing begins.
    let first = TestThread { #expect(blocking.access(0) == .byte(1)) }
    #expect(eventually { waiters(on: descriptor).all == 1 && waiters(on: descriptor).unread == 0 })
    let victims = (0..<4).map { index in
      TestThread {
        let outcome = read(address + UInt(index * pageBytes))
        // The access raises SIGBUS if the page is poisoned, or SIGSEGV if the thread ran only after all access was
        // removed.
        #expect(outcome == .signal(SIGBUS) || outcome == .signal(SIGSEGV))
      }
    }
    #expect(eventually { waiters(on: descriptor).unread == 4 })
    let closer = TestThread { region.close() }
    #expect(eventually { region.isClosed })
    gate.open()
    for thread in [first, closer] + victims { #expect(thread.join()) }
    #expect(failures.all.map(\.region) == Array(repeating: region.name, count: 4))
    #expect(failures.all.allSatisfy { $0.cause as? ResolutionError == .regionClosed })
    #expect(read(address) == .signal(SIGSEGV))
  }

  @Test("Closing is no failure for a page that came between the reading of its fault and its turn")
  func closeWithStaleFault() throws {
    let first = Gate()
    let second = Gate()
    // The provider is blocked at page 0 and at page 1.
    let holding = ClosureProvider(permissions: .onHandler) { request, page in
      (request.offset == 0 ? first : second).wait()
      page.append(repeating: 1, count: request.byteCount)
      return .filled
    }
    let region = try runtime.map(patternProvider(mayBlock: true), byteCount: pageBytes)
    // Faults of a batch are served in the order of their addresses, and the fault of the other region must be the
    // first.
    var others: [LazyRegion] = []
    while (others.last?.address ?? UInt.max) > region.address, others.count < 100 {
      others.append(try runtime.map(holding, byteCount: 2 * pageBytes))
    }
    let below = try #require(others.last { $0.address < region.address })
    let descriptor = region.descriptorNumber
    let holder = TestThread { #expect(below.access(0) == .byte(1)) }
    #expect(eventually { waiters(on: descriptor).all == 1 && waiters(on: descriptor).unread == 0 })
    let another = TestThread { #expect(below.access(pageBytes) == .byte(1)) }
    let toucher = TestThread { #expect(region.access(0) == .byte(expectedByte(0))) }
    #expect(eventually { waiters(on: descriptor).unread == 2 })
    first.open()
    #expect(holder.join())
    // The handler has read both faults. It serves one of them, and the other one gets its page from the pool.
    #expect(eventually { waiters(on: descriptor).all == 2 && waiters(on: descriptor).unread == 0 })
    try region.populate()
    #expect(toucher.join())
    let closer = TestThread { region.close() }
    #expect(eventually { region.isClosed })
    second.open()
    for thread in [another, closer] { #expect(thread.join()) }
    #expect(failures.all.isEmpty)
    #expect(runtime.statistics.pagesFailed == 0)
  }

  @Test("Closing does not wait for a stuck handler longer than its timeout, and its waiters still read no zeros")
  func closeWithStuckHandler() throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(handlerThreads: 1, closeTimeout: .milliseconds(50)))
    let gate = Gate()
    let requests = Requests()
    let region = try runtime.map(
      ClosureProvider(permissions: .onHandler) { request, page in
        requests.add(request)
        gate.wait()
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: 2 * pageBytes)
    let address = region.address
    let victim = TestThread { #expect(read(address) == .signal(SIGSEGV)) }
    #expect(eventually { requests.all.count == 1 })
    region.close()
    #expect(victim.join())
    gate.open()
    // The late answer has no page to fill, and the runtime continues.
    let next = try runtime.map(patternProvider(), byteCount: pageBytes)
    #expect(next.access(0) == .byte(expectedByte(0)))
    #expect(read(address) == .signal(SIGSEGV))
  }

  @Test("A runtime ends while one of its handlers is in a provider that does not return")
  func endWithStuckHandler() throws {
    let gate = Gate()
    let requests = Requests()
    let hasReturned = Atomic<Bool>(false)
    let user = TestThread {
      do {
        let runtime = try FaultRuntime(FaultRuntimeConfiguration(handlerThreads: 2, closeTimeout: .milliseconds(50)))
        let region = try runtime.map(
          ClosureProvider(permissions: .onHandler) { request, page in
            requests.add(request)
            gate.wait()
            hasReturned.store(true, ordering: .releasing)
            page.append(repeating: 1, count: request.byteCount)
            return .filled
          }, byteCount: pageBytes)
        let address = region.address
        let victim = TestThread { #expect(read(address) == .signal(SIGSEGV)) }
        #expect(eventually { requests.all.count == 1 })
        region.close()
        #expect(victim.join())
      } catch {
        Issue.record("\(error)")
      }
    }
    #expect(user.join())
    // The provider gives up waiting some time as well.
    let wasIn = !hasReturned.load(ordering: .acquiring)
    #expect(wasIn)
    gate.open()
  }

  @Test("Closing twice, from several threads, is closing once")
  func closeTwice() throws {
    let region = try runtime.map(patternProvider(), byteCount: pageBytes)
    #expect(region.access(0) == .byte(expectedByte(0)))
    let threads = (0..<4).map { _ in TestThread { region.close() } }
    for thread in threads { #expect(thread.join()) }
    region.close()
    #expect(region.isClosed)
    #expect(runtime.regionCount == 0)
  }

  @Test("A provider that closes another region of its handler does not deadlock")
  func closeFromProvider() throws {
    let other = try runtime.map(patternProvider(), byteCount: pageBytes)
    let address = other.address
    let region = try runtime.map(
      ClosureProvider { request, page in
        other.close()
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: pageBytes)
    #expect(region.access(0) == .byte(1))
    #expect(read(address) == .signal(SIGSEGV))
  }

  @Test("A closed region traps with a message when its bytes are asked for")
  func useAfterClose() async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let region = try FaultRuntime().map(ZeroProvider(), byteCount: 1, options: RegionOptions(name: "gone"))
      region.close()
      _ = region.bytes.byteCount
    }
    let text = result.errors
    #expect(text.contains("'gone' was closed"))
  }

  @Test("No handler of the program runs on a handler thread, except for the thread's own faults")
  func signalMask() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop, handlerThreads: 11))
      let region = try runtime.map(patternProvider(), byteCount: 1)
      #expect(region.access(0) == .byte(expectedByte(0)))
      // The C library starts a thread with all signals blocked. The thread sets its own mask when it first runs.
      let ofFaults = [SIGBUS, SIGSEGV, SIGILL, SIGFPE, SIGTRAP]
      #expect(
        eventually {
          let handlers = runtimeThreads(named: "fault-handler")
          return handlers.count == 11 && handlers.allSatisfy { !ofFaults.contains(where: $0.blocks) }
        })
      for handler in runtimeThreads(named: "fault-handler") {
        #expect([SIGUSR1, SIGTERM, SIGALRM, SIGPROF, SIGINT, SIGCHLD].allSatisfy(handler.blocks))
      }
    }
  }

  @Test("When a runtime is gone, so are its threads and descriptors")
  func nothingIsLeft() async {
    await #expect(processExitsWith: .success) {
      let before = descriptorKinds()
      let rounds = 20
      for _ in 0..<rounds { try exercise() }
      let after = descriptorKinds()
      // Only the library opens descriptors of this kind, so none may be left.
      #expect(after[userfaultfdKind] == nil, "\(after)")
      // Swift's concurrency runtime opens and closes a few descriptors of other kinds at any time. If the library
      // leaked one, there would be at least one for each round.
      for (kind, count) in after { #expect(count - before[kind, default: 0] < rounds, "\(kind): \(before), \(after)") }
      // A thread that was joined may still be visible in /proc for a moment.
      #expect(eventually { runtimeThreads().isEmpty }, "\(runtimeThreads())")
    }
  }
}

private func exercise() throws {
  let runtime = try FaultRuntime(FaultRuntimeConfiguration(handlerThreads: 2))
  let region = try runtime.map(patternProvider(), byteCount: 3 * pageBytes)
  let closed = try runtime.map(patternProvider(), byteCount: 3 * pageBytes)
  #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
  closed.close()
}
