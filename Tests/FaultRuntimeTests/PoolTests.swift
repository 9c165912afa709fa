import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Providers that may block", .timeLimit(.minutes(6)))
struct PoolTests {
  /// A provider that records its requests, and holds those for which `isHeld` returns true until its gate opens.
  private final class Slow: Sendable {
    let gate = Gate()
    private let log = Log<Range<Int>>()
    private let inside = Occupancy()

    /// The pages of each request.
    var requests: [Range<Int>] { log.all }
    var mostAtOnce: Int { inside.most }

    func provider(
      largest: Int = 1, isHeld: @escaping @Sendable (Range<Int>) -> Bool = { _ in true },
      isBad: @escaping @Sendable (Int) -> Bool = { _ in false }
    ) -> ClosureProvider {
      ClosureProvider(requestSize: RequestSize(preferred: 1, largest: largest * pageBytes)) { [self] request, page in
        let pages = request.pages
        log.add(pages)
        inside.enter()
        defer { inside.leave() }
        if isHeld(pages) { gate.wait() }
        if pages.contains(where: isBad) { throw Refused() }
        page.append(expectedBytes(request.range))
        return .filled
      }
    }
  }

  /// Makes a runtime that does not stream ahead, and whose pool takes every call for a prompt one, however long it
  /// lasts. `StuckProviderTests` are about the others.
  private func runtime(threads: Int = 4, closeTimeout: Duration = .seconds(5)) throws -> FaultRuntime {
    var configuration = FaultRuntimeConfiguration(
      delivery: .eventLoop, providerThreads: threads, closeTimeout: closeTimeout)
    configuration.streamDistance = 0
    configuration.handlerThreads = 1
    configuration.providerPatience = .max
    return try FaultRuntime(configuration)
  }

  private func toucher(_ region: LazyRegion, _ page: Int) -> TestThread {
    TestThread { #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
  }

  @Test("One that sleeps holds up neither those that never block nor others that may")
  func noHoldUp() throws {
    let runtime = try runtime()
    let slow = Slow()
    let region = try runtime.map(slow.provider(), byteCount: 8 * pageBytes)
    // More threads wait than the pool has.
    let waiting = (0..<8).map { toucher(region, $0) }
    #expect(eventually { slow.requests.count == 3 })
    let fast = try runtime.map(patternProvider(seed: 1), byteCount: 50 * pageBytes)
    let other = try runtime.map(patternProvider(seed: 2, mayBlock: true), byteCount: 50 * pageBytes)
    #expect(mismatches(in: fast, seed: 1) == [])
    #expect(mismatches(in: other, seed: 2) == [])
    slow.gate.open()
    for thread in waiting { #expect(thread.join()) }
    #expect(slow.mostAtOnce == 3)
    #expect(slow.requests.count == 8)
  }

  @Test("Faults and prefetches of one region together leave a thread to the others")
  func prefetchLeavesThread() throws {
    let runtime = try runtime(threads: 3)
    let slow = Slow()
    let region = try runtime.map(slow.provider(), byteCount: 8 * pageBytes)
    let waiting = (0..<2).map { toucher(region, $0) }
    #expect(eventually { slow.requests.count == 2 })
    let ahead = (4 * pageBytes)..<(5 * pageBytes)
    let prefetcher = TestThread { #expect(throws: Never.self) { try region.prefetch(ahead) } }
    let pool = try #require(region.eventLoop).pool
    #expect(eventually { pool.queuedPrefetches == 1 })
    // The pool takes the prefetches of other regions, so it has passed over this one.
    let other = try runtime.map(patternProvider(seed: 2, mayBlock: true), byteCount: 50 * pageBytes)
    try other.populate()
    #expect(mismatches(in: other, seed: 2) == [])
    #expect(slow.requests.count == 2)
    slow.gate.open()
    for thread in waiting + [prefetcher] { #expect(thread.join()) }
    #expect(slow.requests.count == 3)
  }

  @Test("Prefetches of several regions together leave a thread to faults")
  func prefetchesLeaveThread() throws {
    let runtime = try runtime(threads: 3)
    let slow = Slow()
    let regions = try (0..<3).map { _ in try runtime.map(slow.provider(), byteCount: pageBytes) }
    let prefetchers = regions.map { region in TestThread { #expect(throws: Never.self) { try region.populate() } } }
    let pool = try #require(regions[0].eventLoop).pool
    #expect(eventually { slow.requests.count == 2 && pool.queuedPrefetches == 1 })
    let other = try runtime.map(patternProvider(seed: 2, mayBlock: true), byteCount: 8 * pageBytes)
    #expect(mismatches(in: other, seed: 2) == [])
    #expect(slow.requests.count == 2)
    slow.gate.open()
    for thread in prefetchers { #expect(thread.join()) }
    #expect(slow.requests.count == 3)
  }

  @Test("A pool that has stopped takes no more demand, so that it does not keep the region")
  func demandAfterStop() throws {
    let pool = ProviderPool(limits: PoolLimits(threads: 1), ownThreads: OwnThreads())
    let server = try SigsegvServer(testing: pool)
    pool.stop(nanoseconds: 0)
    weak var kept: Region?
    do {
      let region = try Region(testing: ZeroProvider(), byteCount: pageBytes)
      kept = region
      pool.submit(.demand(PoolRequest(), region, server))
    }
    #expect(kept == nil)
  }

  @Test("However many threads wait for a page, it is asked for once")
  func onceForAll() throws {
    let runtime = try runtime()
    let slow = Slow()
    let region = try runtime.map(slow.provider(), byteCount: 4 * pageBytes)
    let descriptor = region.descriptorNumber
    let threads = (0..<6).map { _ in toucher(region, 2) }
    #expect(eventually { waiters(on: descriptor).all == 6 && waiters(on: descriptor).unread == 0 })
    slow.gate.open()
    for thread in threads { #expect(thread.join()) }
    #expect(slow.requests == [2..<3])
    #expect(runtime.statistics.faults == 6)
    #expect(runtime.statistics.bytesFilled == pageBytes)
  }

  @Test("A fault on a page that is being prefetched waits for it")
  func faultDuringPrefetch() throws {
    let runtime = try runtime()
    let slow = Slow()
    let region = try runtime.map(slow.provider(largest: 4), byteCount: 8 * pageBytes)
    let descriptor = region.descriptorNumber
    let prefetcher = TestThread { #expect(throws: Never.self) { try region.populate() } }
    #expect(eventually { slow.requests == [0..<4] })
    let threads = [toucher(region, 1), toucher(region, 3)]
    #expect(eventually { waiters(on: descriptor).all == 2 && waiters(on: descriptor).unread == 0 })
    slow.gate.open()
    for thread in threads + [prefetcher] { #expect(thread.join()) }
    #expect(slow.requests == [0..<4, 4..<8])
  }

  @Test("A prefetch does not ask for a page that a fault has asked for, and waits for it")
  func prefetchDuringFault() throws {
    let runtime = try runtime()
    let slow = Slow()
    let region = try runtime.map(
      slow.provider(largest: 4, isHeld: { $0.contains(2) || $0.contains(0) }), byteCount: 8 * pageBytes)
    let threads = [toucher(region, 2), toucher(region, 0)]
    #expect(eventually { slow.requests.count == 2 })
    let isDone = Atomic<Bool>(false)
    let prefetcher = TestThread {
      #expect(throws: Never.self) { try region.populate() }
      isDone.store(true, ordering: .sequentiallyConsistent)
    }
    // The prefetch begins with a page that a fault has already requested.
    let wasDone = isDone.load(ordering: .sequentiallyConsistent)
    #expect(!wasDone)
    slow.gate.open()
    for thread in threads + [prefetcher] { #expect(thread.join()) }
    #expect(slow.requests.flatMap(\.self).sorted() == Array(0..<8))
    #expect(mismatches(in: region) == [])
  }

  @Test("Demand goes ahead of prefetch on the only thread")
  func demandFirst() throws {
    let runtime = try runtime(threads: 1)
    let slow = Slow()
    let region = try runtime.map(slow.provider(largest: 2, isHeld: { $0 == 0..<2 }), byteCount: 40 * pageBytes)
    let prefetcher = TestThread { #expect(throws: Never.self) { try region.prefetch(0..<(20 * pageBytes)) } }
    #expect(eventually { slow.requests.count == 1 })
    let descriptor = region.descriptorNumber
    let thread = toucher(region, 30)
    #expect(eventually { waiters(on: descriptor).all == 1 && waiters(on: descriptor).unread == 0 })
    slow.gate.open()
    #expect(thread.join())
    #expect(prefetcher.join())
    #expect(slow.requests[1] == 30..<31)
    #expect(slow.mostAtOnce == 1)
  }

  @Test("A bad page in a request that others joined fails those who touch it, and nobody else")
  func joinedFailure() throws {
    let runtime = try runtime()
    let slow = Slow()
    let region = try runtime.map(
      slow.provider(largest: 4, isHeld: { $0.count > 1 }, isBad: { $0 == 2 }), byteCount: 8 * pageBytes,
      options: RegionOptions(advice: .sequential))
    let descriptor = region.descriptorNumber
    let first = toucher(region, 0)
    #expect(eventually { slow.requests == [0..<4] })
    let second = TestThread { #expect(region.access(2 * pageBytes) == .signal(SIGBUS)) }
    let third = toucher(region, 3)
    #expect(eventually { waiters(on: descriptor).all == 3 && waiters(on: descriptor).unread == 0 })
    slow.gate.open()
    for thread in [first, second, third] { #expect(thread.join()) }
    #expect(region.failures.map(\.offset) == [2 * pageBytes])
    #expect(runtime.statistics.pagesFailed == 1)
    // No thread has touched this page, so it has not failed.
    #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
  }

  @Test("Closing waits for an answer, and a stuck provider is waited for no longer than the timeout")
  func closing() throws {
    let runtime = try runtime(closeTimeout: .milliseconds(50))
    let slow = Slow()
    let region = try runtime.map(slow.provider(isHeld: { $0 == 1..<2 }), byteCount: 4 * pageBytes)
    let address = region.address
    let victim = TestThread {
      let outcome = read(address + UInt(pageBytes))
      #expect(outcome == .signal(SIGSEGV) || outcome == .signal(SIGBUS))
    }
    #expect(eventually { slow.requests.count == 1 })
    region.close()
    #expect(victim.join())
    slow.gate.open()
    #expect(runtime.regionCount == 0)
    let next = try runtime.map(patternProvider(mayBlock: true), byteCount: pageBytes)
    #expect(next.access(0) == .byte(expectedByte(0)))
  }

  @Test("Closing waits for the answer that is under way")
  func closingWaits() throws {
    let runtime = try runtime(closeTimeout: .seconds(600))
    let slow = Slow()
    let region = try runtime.map(slow.provider(), byteCount: pageBytes)
    let address = region.address
    let order = Monitor<[String]>([])
    let victim = TestThread { _ = read(address) }
    #expect(eventually { slow.requests.count == 1 })
    let closer = TestThread {
      region.close()
      order.withLock { $0.append("closed") }
    }
    #expect(eventually { region.isClosed })
    // These yields give a closing that does not wait the time to show itself.
    for _ in 0..<5000 { sched_yield() }
    order.withLock { $0.append("answered") }
    slow.gate.open()
    #expect(victim.join())
    #expect(closer.join())
    #expect(order.withLock { $0 } == ["answered", "closed"])
  }

  /// Blocks the handler thread while a fault on `region` is queued and its page arrives in another way. Then calls
  /// `body` and releases the handler.
  private func arriveUnnoticed(_ region: LazyRegion, over runtime: FaultRuntime, before body: () -> Void) throws {
    let gate = Gate()
    let isHeld = Gate()
    let busy = try runtime.map(
      ClosureProvider(permissions: .onHandler) { request, page in
        isHeld.open()
        gate.wait()
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: 1)
    let first = TestThread { #expect(busy.access(0) == .byte(1)) }
    isHeld.wait()
    let address = region.address
    let second = TestThread { _ = read(address) }
    #expect(eventually { waiters(on: region.descriptorNumber).unread == 1 })
    let other = Scratch(pages: 1)
    other.fill(0x44)
    try region.fillBehindItsBack(0, from: other)
    body()
    gate.open()
    #expect(first.join())
    #expect(second.join())
  }

  @Test("A page that has come since its fault was queued is not asked for", .timeLimit(.minutes(6)))
  func arrivedMeanwhile() throws {
    let runtime = try runtime()
    let slow = Slow()
    let region = try runtime.map(slow.provider(), byteCount: pageBytes)
    try arriveUnnoticed(region, over: runtime) {}
    #expect(slow.requests == [])
    #expect(region.access(0) == .byte(0x44))
  }

  @Test("Closing does not fail a page that has come since its fault was queued", arguments: [false, true])
  func closingAfterArrival(mayBlock: Bool) throws {
    let runtime = try runtime()
    let region = try runtime.map(patternProvider(mayBlock: mayBlock), byteCount: pageBytes)
    let closer = Monitor<TestThread?>(nil)
    try arriveUnnoticed(region, over: runtime) {
      closer.withLock { $0 = TestThread { region.close() } }
      #expect(eventually { region.isClosed })
    }
    #expect(closer.withLock { $0 }?.join() == true)
    #expect(region.failures.isEmpty)
    #expect(runtime.statistics.pagesFailed == 0)
  }

  @Test("A provider that closes its own region does not wait for itself")
  func closesItself() throws {
    let runtime = try runtime(closeTimeout: .seconds(600))
    let box = Monitor<LazyRegion?>(nil)
    let region = try runtime.map(
      ClosureProvider { request, page in
        box.withLock { $0 }?.close()
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: pageBytes)
    box.withLock { $0 = region }
    let outcome = read(region.address)
    #expect(outcome == .signal(SIGSEGV) || outcome == .signal(SIGBUS))
    #expect(region.isClosed)
    box.withLock { $0 = nil }
  }

  @Test("A runtime ends although a provider is stuck")
  func endsWithStuckProvider() throws {
    let slow = Slow()
    var victim: TestThread?
    do {
      let runtime = try runtime(closeTimeout: .milliseconds(50))
      let region = try runtime.map(slow.provider(), byteCount: pageBytes)
      let address = region.address
      victim = TestThread {
        #expect(read(address) == .signal(SIGSEGV))
      }
      #expect(eventually { slow.requests.count == 1 })
      region.close()
    }
    #expect(victim?.join() == true)
    slow.gate.open()
  }

  @Test("Many threads over many regions, with prefetches, and regions that come and go")
  func churn() throws {
    let runtime = try runtime(threads: 3)
    let wrong = Atomic<Int>(0)
    let threads = (0..<4).map { seed in
      TestThread {
        for round in 0..<12 {
          let provider = patternProvider(
            seed: seed, requestSize: RequestSize(preferred: 1, largest: 8 * pageBytes), mayBlock: true)
          guard let region = try? runtime.map(provider, byteCount: 40 * pageBytes) else { return }
          let address = region.address
          let helper = TestThread {
            if round % 2 == 0 { try? region.populate() }
            for page in 0..<40
            where read(address + UInt(page * pageBytes)) != .byte(expectedByte(page * pageBytes, seed: seed)) {
              wrong.wrappingAdd(1, ordering: .relaxed)
            }
          }
          for step in 0..<40 {
            let offset = step * 7 % 40 * pageBytes
            if read(address + UInt(offset)) != .byte(expectedByte(offset, seed: seed)) {
              wrong.wrappingAdd(1, ordering: .relaxed)
            }
          }
          if !helper.join() { wrong.wrappingAdd(1, ordering: .relaxed) }
          region.close()
        }
      }
    }
    for thread in threads { #expect(thread.join()) }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(runtime.statistics.pagesFailed == 0)
    // Each page was filled once.
    #expect(runtime.statistics.bytesFilled == 4 * 12 * 40 * pageBytes)
  }

  @Test("The pool streams ahead of a sequential reader")
  func streaming() throws {
    var configuration = FaultRuntimeConfiguration(delivery: .eventLoop)
    configuration.streamDistance = 20 * pageBytes
    configuration.handlerThreads = 1
    let runtime = try FaultRuntime(configuration)
    let slow = Slow()
    let region = try runtime.map(slow.provider(largest: 4, isHeld: { _ in false }), byteCount: 100 * pageBytes)
    for page in [0, 1, 3] { #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
    #expect(eventually { region.isResident(26 * pageBytes) })
    #expect(runtime.statistics.bytesFilled == 27 * pageBytes)
    #expect(region.access(26 * pageBytes) == .byte(expectedByte(26 * pageBytes)))
    #expect(runtime.statistics.faults == 3)
    #expect(mismatches(in: region) == [])
    #expect(slow.requests.flatMap(\.self).sorted() == Array(0..<100))
  }

  @Test("A stream that is set back to where another reader is, behind what it has done, ends there")
  func streamSetBack() throws {
    let region = try runtime().map(Slow().provider(isHeld: { _ in false }), byteCount: 32 * pageBytes)
    guard let loop = region.eventLoop else {
      Issue.record("not the event loop")
      return
    }
    let job = PoolPrefetch(aheadOfReaderOf: region.core)
    // The values are in variables because a failing expectation prints its parts, and not all of these parts can be
    // printed.
    var hasBegun = job.goOn(from: 8 * pageBytes, to: 16 * pageBytes)
    #expect(hasBegun)
    hasBegun = job.goOn(from: 0, to: 2 * pageBytes)
    #expect(!hasBegun)
    var worker = PoolWorker()
    worker.run(.prefetch(job, loop))
    #expect(!region.isResident(8 * pageBytes))
    hasBegun = job.goOn(from: 0, to: 2 * pageBytes)
    #expect(hasBegun)
    worker.run(.prefetch(job, loop))
    // The pool does the rest.
    #expect(eventually { region.isResident(pageBytes) })
  }

  @Test("A thread whose page was discarded after the answer was put in place, and before its request ended, asks again")
  func discardedAnswer() throws {
    let region = try runtime().map(patternProvider(mayBlock: true), byteCount: 8 * pageBytes)
    let inFlight = RequestsInFlight()
    var request: PoolRequest?
    var woken: [UInt] = []
    func admit(_ pages: [Int]) {
      var batch = FaultBatch(capacity: 8)
      for page in pages {
        batch.insert(PendingFault(page: region.address + UInt(page * pageBytes), isWrite: false))
      }
      var run = FaultRun(region: region.core, fault: batch[0], index: 0)
      for index in 1..<batch.count { _ = run.absorb(batch[index]) }
      inFlight.admit(
        run, batch, submit: { request = $0 }, wake: { woken.append($0) }, resubmit: { _ in },
        fail: { _, _ in Issue.record("deadlock") })
    }
    for isDiscarded in [false, true] {
      admit([0])
      let made = try #require(request)
      var waiting: [UInt] = []
      inFlight.take(made, waiting: &waiting)
      #expect(waiting == [region.address])
      // At this point the answer would be placed.
      if isDiscarded { admit([0]) }
      inFlight.finish(
        made, filled: 0..<pageBytes, handled: 0, known: 1, wake: { woken.append($0) }, resubmit: { _ in })
      #expect(woken == (isDiscarded ? [region.address] : []))
    }
  }

  @Test("The number of threads is from 1 to 64", arguments: [0, -1, 65])
  func limits(threads: Int) {
    #expect {
      _ = try runtime(threads: threads)
    } throws: {
      ($0 as? FaultRuntimeError)?.code == .invalidConfiguration
    }
  }
}
