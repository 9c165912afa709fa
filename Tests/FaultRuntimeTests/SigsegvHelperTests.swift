import CTestSupport
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Providers that must not run on the faulting thread, without a userfaultfd", .timeLimit(.minutes(6)))
struct SigsegvHelperTests {
  private func runtime(providerThreads: Int = 4, closeTimeout: Duration = .seconds(5)) throws -> FaultRuntime {
    try FaultRuntime(
      FaultRuntimeConfiguration(
        delivery: .sigsegv, providerThreads: providerThreads, closeTimeout: closeTimeout, onNotice: { _ in }))
  }

  @Test("A thread of the runtime's own asks them, for pages, prefetches and pieces", arguments: [false, true])
  func asked(mayBlock: Bool) throws {
    let here = Monitor<Set<Int32>>([])
    let runtime = try runtime()
    let region = try runtime.map(
      ClosureProvider(permissions: mayBlock ? .standard : .onHandler) { request, page in
        here.withLock { _ = $0.insert(cts_thread_id()) }
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 40 * pageBytes + 5)
    #expect(region.delivery == .sigsegv)
    #expect(region.access(7 * pageBytes) == .byte(expectedByte(7 * pageBytes)))
    #expect(!here.withLock { $0 }.contains(cts_thread_id()))
    #expect(try region.read(20 * pageBytes..<22 * pageBytes) == expectedBytes(20 * pageBytes..<22 * pageBytes))
    var pieces: [UInt8] = []
    try unsafe region.forEachUnsafePiece(of: 0..<region.byteCount) { bytes, _ in unsafe pieces += Array(bytes) }
    #expect(pieces == expectedBytes(0..<region.byteCount))
    #expect(mismatches(in: region) == [])
    #expect(tailIsZero(region))
  }

  @Test("Many threads on one page are one request, where the provider blocks")
  func onePage() throws {
    let requests = Requests()
    let gate = Gate()
    let runtime = try runtime()
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage) { request, page in
        requests.add(request)
        gate.wait()
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 2 * pageBytes)
    let threads = (0..<8).map { index in
      TestThread { #expect(region.access(index) == .byte(expectedByte(index))) }
    }
    #expect(eventually { runtime.statistics.faults == 8 })
    gate.open()
    for thread in threads { #expect(thread.join()) }
    #expect(requests.all == [PageRequest(offset: 0, byteCount: pageBytes)])
    #expect(runtime.statistics.requests == 1)
    #expect(runtime.statistics.bytesFilled == pageBytes)
  }

  @Test("One that does not block is asked for one page at a time, by faults and prefetches alike")
  func oneAtATime() throws {
    let inside = Occupancy()
    let pages = 300
    let region = try runtime().map(
      ClosureProvider(requestSize: .singlePage, permissions: .onHandler) { request, page in
        inside.enter()
        defer { inside.leave() }
        sched_yield()
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: pages * pageBytes)
    let wrong = Atomic<Int>(0)
    let threads = (0..<4).map { index in
      TestThread {
        for step in 0..<pages {
          let offset = (step * 7 + index * 31) % pages * pageBytes
          if region.access(offset) != .byte(expectedByte(offset)) { wrong.wrappingAdd(1, ordering: .relaxed) }
        }
      }
    }
    try region.populate()
    for thread in threads { #expect(thread.join()) }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(inside.most == 1)
  }

  @Test("Different pages of one that blocks are asked for at the same time")
  func together() throws {
    let inside = Atomic<Int>(0)
    let region = try runtime().map(
      ClosureProvider(requestSize: .singlePage) { request, page in
        inside.wrappingAdd(1, ordering: .relaxed)
        // Neither thread continues before the other one has arrived.
        eventually { inside.load(ordering: .relaxed) >= 2 }
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 8 * pageBytes)
    let threads = [0, 5].map { page in
      TestThread { #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
    }
    for thread in threads { #expect(thread.join()) }
    #expect(inside.load(ordering: .relaxed) == 2)
  }

  @Test("The thread that asks for one page at a time is there beside those of the configuration")
  func threadsBesideSerial() throws {
    let runtime = try runtime(providerThreads: 2)
    let serial = try runtime.map(patternProvider(), byteCount: pageBytes)
    #expect(serial.access(0) == .byte(expectedByte(0)))
    let inside = Atomic<Int>(0)
    let together = Atomic<Int>(0)
    // One region alone gets one thread at most, so these are two.
    let regions = try (0..<2).map { _ in
      try runtime.map(
        ClosureProvider(requestSize: .singlePage) { request, page in
          inside.wrappingAdd(1, ordering: .relaxed)
          // Neither thread continues before the other one has arrived.
          if eventually({ inside.load(ordering: .relaxed) == 2 }) { together.wrappingAdd(1, ordering: .relaxed) }
          page.append(expectedBytes(request.range))
          return .filled
        }, byteCount: pageBytes)
    }
    let threads = regions.map { region in TestThread { #expect(region.access(0).isByte) } }
    for thread in threads { thread.join() }
    let count = together.load(ordering: .relaxed)
    #expect(count == 2)
  }

  @Test("A prefetch on the thread that asks for one page at a time takes no thread away from other prefetches")
  func prefetchBesideSerial() throws {
    let pool = ProviderPool(limits: PoolLimits(threads: 2), ownThreads: OwnThreads())
    let server = try SigsegvServer(testing: pool)
    try pool.prepare(serially: true)
    defer { pool.stop(nanoseconds: 5_000_000_000) }
    let gate = Gate()
    let (first, second) = (Requests(), Requests())
    let serial = try Region(
      testing: ClosureProvider(permissions: []) { request, _ in
        first.add(request)
        gate.wait()
        return .zero
      }, byteCount: pageBytes)
    let other = try Region(
      testing: ClosureProvider { request, _ in
        second.add(request)
        return .zero
      }, byteCount: pageBytes)
    try #require(server.asksSerially(serial) && !server.asksSerially(other))
    // The memory of these regions is not registered, so the prefetches end with an error. They ask before that.
    let jobs = [serial, other].map { PoolPrefetch($0, 0..<pageBytes) }
    pool.submit(.prefetch(jobs[0], server))
    #expect(eventually { first.all.count == 1 })
    pool.submit(.prefetch(jobs[1], server))
    #expect(eventually { second.all.count == 1 })
    gate.open()
    for job in jobs { #expect(job.done.wait(nanoseconds: 30_000_000_000)) }
  }

  @Test("An error fails the page, its message is kept, and a retry cures it", arguments: [false, true])
  func failure(mayBlock: Bool) throws {
    let isMended = Atomic<Bool>(false)
    let region = try runtime().map(
      ClosureProvider(permissions: mayBlock ? .standard : .onHandler) { request, page in
        if request.range.contains(3 * pageBytes), !isMended.load(ordering: .relaxed) { throw Refused() }
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 8 * pageBytes)
    let threads = (0..<4).map { _ in TestThread { #expect(region.access(3 * pageBytes) == .signal(SIGSEGV)) } }
    for thread in threads { #expect(thread.join()) }
    #expect(region.failure(at: 3 * pageBytes)?.cause is Refused)
    #expect(region.access(4 * pageBytes) == .byte(expectedByte(4 * pageBytes)))
    isMended.store(true, ordering: .relaxed)
    try region.retry(0..<region.byteCount)
    #expect(region.access(3 * pageBytes) == .byte(expectedByte(3 * pageBytes)))
  }

  @Test("Providers of this kind may lean on one another, and one that comes back to its own page is failed")
  func nested() throws {
    let runtime = try runtime(providerThreads: 1)
    let inner = try runtime.map(patternProvider(seed: 4, mayBlock: true), byteCount: 2 * pageBytes)
    let serial = try runtime.map(patternProvider(seed: 5), byteCount: 2 * pageBytes)
    let outer = try runtime.map(
      ClosureProvider(requestSize: .singlePage) { request, page in
        page.append(
          request.offset == 0 ? inner.bytes.extracting(0..<pageBytes) : serial.bytes.extracting(0..<pageBytes))
        return .filled
      }, byteCount: 2 * pageBytes)
    #expect(outer.access(9) == .byte(expectedByte(9, seed: 4)))
    #expect(outer.access(pageBytes + 9) == .byte(expectedByte(9, seed: 5)))
    let place = Monitor<UInt>(0)
    let own = try runtime.map(
      ClosureProvider(requestSize: .singlePage) { _, _ in
        guard case .byte = read(place.withLock { $0 }) else { throw Refused() }
        return .zero
      }, byteCount: pageBytes)
    place.withLock { $0 = own.address }
    #expect(own.access(0) == .signal(SIGSEGV))
    #expect(own.failures.contains { ($0.cause as? ResolutionError)?.code == .deadlock })
  }

  @Test("More threads than there are requests and places in their lists all get their pages")
  func crowd() throws {
    let gate = Gate()
    let runtime = try runtime()
    let pages = 100
    func region(_ size: RequestSize, seed: Int) throws -> LazyRegion {
      try runtime.map(
        ClosureProvider(requestSize: size) { request, page in
          gate.wait()
          page.append(expectedBytes(request.range, seed: seed))
          return .filled
        }, byteCount: pages * pageBytes)
    }
    let single = try region(.singlePage, seed: 1)
    let together = try region(RequestSize(preferred: pages * pageBytes, largest: pages * pageBytes), seed: 2)
    let threads = (0..<pages).flatMap { page in
      [(single, 1), (together, 2)].map { region, seed in
        TestThread {
          #expect(region.access(page * pageBytes + 9) == .byte(expectedByte(page * pageBytes + 9, seed: seed)))
        }
      }
    }
    #expect(eventually { runtime.statistics.faults == UInt64(2 * pages) })
    gate.open()
    for thread in threads { #expect(thread.join()) }
    #expect(mismatches(in: single, seed: 1) == [])
    #expect(mismatches(in: together, seed: 2) == [])
  }

  @Test("A page that came while a thread was on its way is not asked for again")
  func cameMeanwhile() throws {
    let region = try runtime().map(patternProvider(mayBlock: true), byteCount: 2 * pageBytes)
    try region.prefetch(0..<pageBytes)
    let inFlight = RequestsInFlight(premade: 1)
    func admit(_ offset: Int) -> (hasTicket: Bool, hasRequest: Bool) {
      let fault = PendingFault(page: region.address + UInt(offset), isWrite: false)
      let run = FaultRun(region: region.core, fault: fault, index: 0)
      var hasRequest = false
      let ticket = inFlight.admit(fault, of: run, submit: { _ in hasRequest = true }, resubmit: { _ in })
      return (ticket != nil, hasRequest)
    }
    #expect(admit(0) == (false, false))
    #expect(admit(pageBytes) == (true, true))
    // Another thread already fetches this page.
    #expect(admit(pageBytes) == (true, false))
    // The page that is present is not in the list of waiting pages.
    #expect(inFlight.waitingPages(of: region.core) == 1)
  }

  @Test("Closing lets go of threads whose provider does not return", arguments: [false, true])
  func closing(mayBlock: Bool) throws {
    let gate = Gate()
    let asked = Atomic<Int>(0)
    let runtime = try runtime()
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: mayBlock ? .standard : .onHandler) { request, page in
        asked.wrappingAdd(1, ordering: .relaxed)
        gate.wait()
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: pageBytes)
    let address = region.address
    let threads = (0..<2).map { _ in TestThread { #expect(read(address) == .signal(SIGSEGV)) } }
    #expect(eventually { asked.load(ordering: .relaxed) == 1 && runtime.statistics.faults == 2 })
    region.close()
    for thread in threads { #expect(thread.join()) }
    gate.open()
    #expect(read(address) == .signal(SIGSEGV))
  }
}
