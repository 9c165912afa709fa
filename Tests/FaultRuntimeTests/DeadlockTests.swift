import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite(
  "Providers that touch lazy memory which waits for them", .timeLimit(.minutes(6)),
  .enabled(if: Host.features.contains(.poison), SkipReason.poison))
struct DeadlockTests {
  /// The addresses of regions, for providers that were made before their regions.
  private final class Places: Sendable {
    private let addresses = Monitor<[UInt]>([])
    func add(_ region: LazyRegion) { addresses.withLock { $0.append(region.address) } }
    subscript(index: Int) -> UInt { addresses.withLock { $0[index] } }
  }

  private struct Touched: Error { var signal: CInt }

  /// Returns a provider that touches `page` of the region number `index` and answers with the byte that it reads.
  private static func toucher(
    _ places: Places, _ index: Int, page: Int, mayBlock: Bool, inFaultingThread: Bool = false
  ) -> ClosureProvider {
    ClosureProvider(
      requestSize: .singlePage, permissions: .test(mayBlock: mayBlock, inFaultingThread: inFaultingThread)
    ) {
      request, buffer in
      switch read(places[index] + UInt(page * pageBytes)) {
      case .byte(let byte): buffer.append(repeating: byte, count: request.byteCount)
      // The runtime fails the access with SIGBUS. Without a handler, a program would die here.
      case .signal(let signal): throw Touched(signal: signal)
      case .never: throw Touched(signal: 0)
      }
      return .filled
    }
  }

  private func runtime(handlers: Int = 1, delivery: Delivery = .eventLoop) throws -> FaultRuntime {
    try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery, handlerThreads: handlers))
  }

  private func deadlock(_ region: LazyRegion, at offset: Int) -> SelfDeadlock? {
    for failure in region.failures where failure.offset == offset {
      if let found = (failure.cause as? ResolutionError)?.deadlock { return found }
    }
    return nil
  }

  @Test("A handler's provider that touches its own region", arguments: [0, 1])
  func ownHandler(page: Int) throws {
    let places = Places()
    let region = try runtime().map(
      Self.toucher(places, 0, page: page, mayBlock: false), byteCount: 4 * pageBytes,
      options: RegionOptions(name: "self"))
    places.add(region)
    #expect(region.access(2 * pageBytes) == .signal(SIGBUS))
    let found = deadlock(region, at: page * pageBytes)
    #expect(
      found
        == SelfDeadlock(
          region: "self", range: (2 * pageBytes)..<(3 * pageBytes), touchedRegion: "self",
          touchedOffset: page * pageBytes))
  }

  @Test(
    "A handler's provider that touches another region of the same handler, on the pool or not",
    arguments: [false, true])
  func sameHandler(mayBlock: Bool) throws {
    let runtime = try runtime()
    let places = Places()
    let other = try runtime.map(
      patternProvider(mayBlock: mayBlock), byteCount: pageBytes, options: RegionOptions(name: "other"))
    places.add(other)
    let region = try runtime.map(
      Self.toucher(places, 0, page: 0, mayBlock: false), byteCount: pageBytes, options: RegionOptions(name: "one"))
    #expect(region.access(0) == .signal(SIGBUS))
    let found = deadlock(other, at: 0)
    #expect(found == SelfDeadlock(region: "one", range: 0..<pageBytes, touchedRegion: "other", touchedOffset: 0))
    // Another thread can have the page.
    try other.retry(0..<pageBytes)
    #expect(mismatches(in: other) == [])
  }

  @Test(
    "Two handlers' providers that touch each other's regions: one end fails, and the other gets its page or an error")
  func twoHandlers() throws {
    let runtime = try runtime(handlers: 2)
    let places = Places()
    let bothIn = Atomic<Int>(0)
    let regions = try [1, 0].map { index in
      let base = Self.toucher(places, index, page: 0, mayBlock: false)
      return try runtime.map(
        ClosureProvider(requestSize: .singlePage, permissions: .onHandler) { request, page in
          bothIn.wrappingAdd(1, ordering: .relaxed)
          _ = eventually { bothIn.load(ordering: .relaxed) >= 2 }
          return try base.page(request, into: &page)
        }, byteCount: 2 * pageBytes, options: RegionOptions(name: "region \(1 - index)"))
    }
    for region in regions { places.add(region) }
    let threads = regions.map { region in TestThread { #expect(region.access(pageBytes) == .signal(SIGBUS)) } }
    for thread in threads { #expect(thread.join()) }
    let found = regions.compactMap { deadlock($0, at: 0) }
    #expect(!found.isEmpty)
    #expect(found.allSatisfy { $0.region != $0.touchedRegion })
  }

  @Test("A provider on the pool that touches the page that it is asked for")
  func ownPage() throws {
    let places = Places()
    let region = try runtime().map(
      Self.toucher(places, 0, page: 1, mayBlock: true), byteCount: 4 * pageBytes, options: RegionOptions(name: "pooled")
    )
    places.add(region)
    #expect(region.access(pageBytes) == .signal(SIGBUS))
    #expect(
      deadlock(region, at: pageBytes)
        == SelfDeadlock(
          region: "pooled", range: pageBytes..<(2 * pageBytes), touchedRegion: "pooled", touchedOffset: pageBytes))
  }

  @Test("Two providers on the pool that touch each other's regions, whose faults come to two handlers")
  func poolCycleOverHandlers() throws {
    let runtime = try runtime(handlers: 2)
    let places = Places()
    let regions = try [1, 0].map { index in
      try runtime.map(
        Self.toucher(places, index, page: 0, mayBlock: true), byteCount: pageBytes,
        options: RegionOptions(name: "region \(1 - index)"))
    }
    for region in regions { places.add(region) }
    let toucher = TestThread { #expect(regions[0].access(0) == .signal(SIGBUS)) }
    #expect(toucher.join())
    let found = regions.compactMap { deadlock($0, at: 0) }
    #expect(found.count == 1)
    #expect(found.allSatisfy { $0.region != $0.touchedRegion && $0.range == 0..<pageBytes })
  }

  @Test("A handler's provider and one on the pool that touch each other's regions")
  func handlerAndPool() throws {
    let runtime = try runtime(handlers: 2)
    let places = Places()
    let handled = try runtime.map(
      Self.toucher(places, 1, page: 0, mayBlock: false), byteCount: 2 * pageBytes,
      options: RegionOptions(name: "handled"))
    let pooled = try runtime.map(
      Self.toucher(places, 0, page: 1, mayBlock: true), byteCount: pageBytes, options: RegionOptions(name: "pooled"))
    places.add(handled)
    places.add(pooled)
    let toucher = TestThread { #expect(handled.access(0) == .signal(SIGBUS)) }
    #expect(toucher.join())
    let found = [deadlock(handled, at: pageBytes), deadlock(pooled, at: 0)].compactMap(\.self)
    #expect(!found.isEmpty)
    #expect(found.allSatisfy { $0.region != $0.touchedRegion })
  }

  @Test("Pages of one region may lean on one another, deeper than the pool has threads", arguments: [1, 2, 4])
  func chainInOneRegion(threads: Int) throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop, providerThreads: threads))
    let places = Places()
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage) { request, page in
        let next = request.offset + pageBytes
        guard next < 8 * pageBytes else {
          page.append(repeating: 9, count: request.byteCount)
          return .filled
        }
        guard case .byte(let byte) = read(places[0] + UInt(next)) else { throw Touched(signal: SIGBUS) }
        page.append(repeating: byte, count: request.byteCount)
        return .filled
      }, byteCount: 8 * pageBytes, options: RegionOptions(advice: .random))
    places.add(region)
    let toucher = TestThread { #expect(region.access(0) == .byte(9)) }
    #expect(toucher.join())
  }

  @Test("Pages that lean on one another deeper than the pool may grow are an error, with both ends")
  func endlessOnPool() throws {
    let deadlocks = Monitor<[SelfDeadlock]>([])
    var configuration = FaultRuntimeConfiguration(delivery: .eventLoop, providerThreads: 1)
    configuration.onFailure = { failure in
      if let found = (failure.cause as? ResolutionError)?.deadlock { deadlocks.withLock { $0.append(found) } }
    }
    let runtime = try FaultRuntime(configuration)
    let places = Places()
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage) { request, page in
        guard case .byte(let byte) = read(places[0] + UInt(request.offset + pageBytes)) else {
          throw Touched(signal: SIGBUS)
        }
        page.append(repeating: byte, count: request.byteCount)
        return .filled
      }, byteCount: 200 * pageBytes, options: RegionOptions(advice: .random))
    places.add(region)
    let toucher = TestThread { #expect(region.access(0) == .signal(SIGBUS)) }
    #expect(toucher.join())
    let deepest = try #require(deadlocks.withLock { $0.first })
    #expect(deepest.touchedOffset == deepest.range.lowerBound + pageBytes)
    #expect(deepest.touchedOffset > 60 * pageBytes)
  }

  @Test("Two providers on the pool that touch each other's regions")
  func poolCycle() throws {
    let runtime = try runtime()
    let places = Places()
    let regions = try [1, 0].map { index in
      try runtime.map(
        Self.toucher(places, index, page: 0, mayBlock: true), byteCount: pageBytes,
        options: RegionOptions(name: "region \(1 - index)"))
    }
    for region in regions { places.add(region) }
    // Region 0 asks for region 1, whose provider asks for region 0. The deadlock is found at the second access.
    #expect(regions[0].access(0) == .signal(SIGBUS))
    #expect(
      deadlock(regions[0], at: 0)
        == SelfDeadlock(region: "region 1", range: 0..<pageBytes, touchedRegion: "region 0", touchedOffset: 0))
  }

  @Test("Providers on the pool may lean on one another, deeper than the pool has threads", arguments: [1, 2, 4])
  func chain(threads: Int) throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop, providerThreads: threads))
    let places = Places()
    let depth = 8
    var regions: [LazyRegion] = []
    regions.append(try runtime.map(patternProvider(mayBlock: true), byteCount: pageBytes))
    places.add(regions[0])
    for index in 1..<depth {
      regions.append(
        try runtime.map(Self.toucher(places, index - 1, page: 0, mayBlock: true), byteCount: pageBytes))
      places.add(regions[index])
    }
    #expect(regions[depth - 1].access(0) == .byte(expectedByte(0)))
    #expect(regions.allSatisfy { $0.failures.isEmpty })
  }

  @Test(
    "A faulting thread whose provider comes back to the page that it is asked for", arguments: [0, 1],
    Delivery.inFaultingThread)
  func faultingThread(throughAnother: Int, delivery: Delivery) throws {
    let runtime = try runtime(delivery: delivery)
    let places = Places()
    // With two regions, each provider touches the other region. With one, the provider touches its own region.
    let regions = try (0...throughAnother).map { index in
      try runtime.map(
        Self.toucher(places, throughAnother - index, page: 0, mayBlock: false, inFaultingThread: true),
        byteCount: pageBytes, options: RegionOptions(name: "region \(index)"))
    }
    for region in regions { places.add(region) }
    #expect(regions[0].access(0) == .signal(regions[0].failureSignal))
    #expect(
      deadlock(regions[0], at: 0)
        == SelfDeadlock(
          region: "region \(throughAnother)", range: 0..<pageBytes, touchedRegion: "region 0", touchedOffset: 0))
  }

  @Test(
    "Faulting threads that go from page to page without end stop at a depth",
    // The signal stack of the address sanitizer has only 32 KiB, and its frames are large.
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: Delivery.inFaultingThread)
  func endless(delivery: Delivery) throws {
    let runtime = try runtime(delivery: delivery)
    let places = Places()
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: .inSignalHandler) { request, page in
        let next = request.offset / pageBytes + 1
        guard case .byte(let byte) = read(places[0] + UInt(next * pageBytes)) else { throw Touched(signal: SIGBUS) }
        page.append(repeating: byte, count: request.byteCount)
        return .filled
      }, byteCount: 100 * pageBytes)
    places.add(region)
    #expect(region.access(0) == .signal(region.failureSignal))
    let tooDeep = region.failures.compactMap { ($0.cause as? ResolutionError)?.nestedFaultCount }
    #expect(tooDeep.count == 1)
    #expect(tooDeep.allSatisfy { $0 >= 32 })
  }

  @Test("A provider that waits for a thread that faults is ended by the timeout")
  func waitsForFaultingThread() throws {
    let runtime = try runtime()
    let places = Places()
    let released = Gate()
    let region = try runtime.map(
      ClosureProvider { request, page in
        let waited = TestThread {
          _ = read(places[0])
          released.open()
        }
        released.wait()
        waited.join()
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: pageBytes, options: RegionOptions(timeout: .milliseconds(50)))
    places.add(region)
    #expect(region.access(0) == .signal(SIGBUS))
    #expect(region.failure(at: 0)?.cause as? ResolutionError == .timeoutExceeded(.milliseconds(50)))
  }

  @Test("Only a thread that sleeps in a fault is taken for one that does")
  func waitsInFault() throws {
    let gate = Gate()
    let region = try runtime().map(
      ClosureProvider { request, page in
        gate.wait()
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: pageBytes)
    let address = region.address
    let sleeping = Atomic<UInt32>(0)
    let sleeper = TestThread {
      sleeping.store(UInt32(cts_thread_id()), ordering: .relaxed)
      #expect(read(address) == .byte(1))
    }
    #expect(eventually { waiters(on: region.descriptorNumber).all == 1 })
    #expect(
      eventually {
        let found = cuffd_thread_waits_in_fault(sleeping.load(ordering: .relaxed))
        // A kernel without symbols does not report where a thread sleeps.
        return found == 1 || found == -ENOSYS
      })
    // There may be more spinning threads than CPUs, so some of them are runnable but do not run.
    let isOver = Atomic<Bool>(false)
    let spinning = Monitor<[UInt32]>([])
    let spinners = (0..<4).map { _ in
      TestThread {
        spinning.withLock { $0.append(UInt32(cts_thread_id())) }
        while !isOver.load(ordering: .relaxed) {}
      }
    }
    #expect(eventually { spinning.withLock { $0.count } == spinners.count })
    for _ in 0..<100 {
      for number in spinning.withLock({ $0 }) { #expect(cuffd_thread_waits_in_fault(number) == 0) }
    }
    isOver.store(true, ordering: .relaxed)
    gate.open()
    for thread in spinners + [sleeper] { #expect(thread.join()) }
  }

  @Test("The runtime's own threads are told from others, and forgotten when they end")
  func ownThreads() {
    let own = OwnThreads()
    let mine = UInt32(cts_thread_id())
    #expect(!own.contains(mine))
    own.addCaller()
    #expect(own.contains(mine))
    #expect(!own.contains(mine + 1))
    let other = Atomic<UInt32>(0)
    let thread = TestThread {
      own.addCaller()
      other.store(UInt32(cts_thread_id()), ordering: .relaxed)
      #expect(own.contains(UInt32(cts_thread_id())))
      own.removeCaller()
    }
    thread.join()
    #expect(!own.contains(other.load(ordering: .relaxed)))
    #expect(own.contains(mine))
  }
}
