import CUFFD
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

/// A place where calls of providers stay until it is opened. It has a time limit far above that of any wait of a test,
/// so a call that has been let go is no reason why a test succeeds.
final class Dam: Sendable {
  private let opened = Monitor(false)
  private let count = Atomic<Int>(0)

  /// How many calls have come here so far.
  var callCount: Int { count.load(ordering: .relaxed) }

  func hold() {
    count.wrappingAdd(1, ordering: .relaxed)
    _ = opened.wait(nanoseconds: 240_000_000_000) { $0 ? true : nil }
  }

  func open() {
    opened.withLock { $0 = true }
    opened.announce()
  }

  /// A provider whose calls stay here.
  func provider(permissions: ProviderPermissions = .standard, largest: Int = 1) -> ClosureProvider {
    ClosureProvider(
      requestSize: RequestSize(preferred: 1, largest: largest * pageBytes), permissions: permissions
    ) { [self] request, page in
      hold()
      page.append(expectedBytes(request.range))
      return .filled
    }
  }
}

/// What a provider permits that the pool asks, with the delivery that serves it.
enum Stuck: CaseIterable {
  /// Several threads may ask.
  case concurrent
  /// One thread at a time may ask.
  case serial
  /// With `sigsegv`, several threads of the pool may ask.
  case concurrentWithoutDescriptor
  /// With `sigsegv`, a serial thread asks.
  case serialWithoutDescriptor

  var delivery: Delivery { self == .concurrent || self == .serial ? .eventLoop : .sigsegv }
  var permissions: ProviderPermissions {
    self == .concurrent || self == .concurrentWithoutDescriptor ? .standard : []
  }
}

@Suite("Providers that never return, and the regions beside them", .timeLimit(.minutes(6)))
struct StuckProviderTests {
  private func runtime(_ delivery: Delivery, threads: Int = 4) throws -> FaultRuntime {
    var configuration = FaultRuntimeConfiguration(
      delivery: delivery, handlerThreads: 1, providerThreads: threads, closeTimeout: .milliseconds(50),
      explainsFailures: false, onNotice: { _ in })
    configuration.streamDistance = 0
    return try FaultRuntime(configuration)
  }

  /// Maps a region of the same kind as those that are stuck, and reads and fills all of it in every way.
  private func expectService(
    in runtime: FaultRuntime, _ permissions: ProviderPermissions, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let provider = ClosureProvider(requestSize: .singlePage, permissions: permissions) { request, page in
      page.append(expectedBytes(request.range, seed: 7))
      return .filled
    }
    let region = try runtime.map(provider, byteCount: 12 * pageBytes)
    let touched = Later { mismatches(in: region, 0..<(4 * pageBytes), seed: 7) }
    #expect(try touched.result(sourceLocation: sourceLocation) == [], sourceLocation: sourceLocation)
    let filled = Later { try? region.prefetch((4 * pageBytes)..<(8 * pageBytes)) }
    #expect(try filled.result(sourceLocation: sourceLocation) != nil, sourceLocation: sourceLocation)
    let pieces = Later { () -> [UInt8] in
      var bytes: [UInt8] = []
      try? unsafe region.forEachUnsafePiece(of: (8 * pageBytes)..<region.byteCount) { piece, _ in
        unsafe bytes += Array(piece)
      }
      return bytes
    }
    #expect(
      try pieces.result(sourceLocation: sourceLocation)
        == expectedBytes((8 * pageBytes)..<region.byteCount, seed: 7), sourceLocation: sourceLocation)
  }

  @Test("Faults on any number of regions hold up no other region", arguments: Stuck.allCases, [2, 5, 9])
  func faults(kind: Stuck, count: Int) throws {
    let dam = Dam()
    defer { dam.open() }
    let runtime = try runtime(kind.delivery)
    let regions = try (0..<count).map { _ in
      try runtime.map(dam.provider(permissions: kind.permissions), byteCount: 4 * pageBytes)
    }
    let threads = regions.flatMap { region in
      (0..<4).map { page in TestThread { _ = region.access(page * pageBytes) } }
    }
    // Each of them gets a thread, however many others do not give theirs back.
    #expect(eventually { dam.callCount >= count })
    try expectService(in: runtime, kind.permissions)
    dam.open()
    for thread in threads { #expect(thread.join()) }
  }

  @Test("Prefetches of any number of regions hold up no other region", arguments: Stuck.allCases)
  func prefetches(kind: Stuck) throws {
    // With this delivery the calling thread asks a provider that several may ask.
    guard kind != .concurrentWithoutDescriptor else { return }
    let dam = Dam()
    defer { dam.open() }
    let runtime = try runtime(kind.delivery, threads: 2)
    let regions = try (0..<5).map { _ in
      try runtime.map(dam.provider(permissions: kind.permissions), byteCount: 4 * pageBytes)
    }
    let threads = regions.map { region in TestThread { try? region.populate() } }
    #expect(eventually { dam.callCount >= 5 })
    try expectService(in: runtime, kind.permissions)
    dam.open()
    for thread in threads { #expect(thread.join()) }
  }

  @Test("Pieces of any number of regions hold up no other region", arguments: [Stuck.concurrent, .serial])
  func pieces(kind: Stuck) throws {
    let dam = Dam()
    defer { dam.open() }
    let runtime = try runtime(kind.delivery, threads: 2)
    let regions = try (0..<5).map { _ in
      try runtime.map(dam.provider(permissions: kind.permissions), byteCount: 4 * pageBytes)
    }
    let threads = regions.map { region in
      TestThread { try? unsafe region.forEachUnsafePiece(of: 0..<(4 * pageBytes)) { _, _ in } }
    }
    #expect(eventually { dam.callCount >= 5 })
    try expectService(in: runtime, kind.permissions)
    dam.open()
    for thread in threads { #expect(thread.join()) }
  }

  @Test("The only thread of a pool may be in a call that does not return", arguments: Stuck.allCases)
  func onlyThread(kind: Stuck) throws {
    let dam = Dam()
    defer { dam.open() }
    let runtime = try runtime(kind.delivery, threads: 1)
    let region = try runtime.map(dam.provider(permissions: kind.permissions), byteCount: 4 * pageBytes)
    let threads = (0..<4).map { page in TestThread { _ = region.access(page * pageBytes) } }
    #expect(eventually { dam.callCount == 1 })
    try expectService(in: runtime, kind.permissions)
    // The region itself has no more than its one thread.
    #expect(dam.callCount == 1)
    dam.open()
    for thread in threads { #expect(thread.join()) }
  }

  @Test("Providers that wait for pages of a region that does not answer hold up no other region")
  func dependent() throws {
    let dam = Dam()
    defer { dam.open() }
    let runtime = try runtime(.eventLoop)
    let pages = 80
    let dead = try runtime.map(dam.provider(), byteCount: pages * pageBytes)
    let address = dead.address
    let entered = Atomic<Int>(0)
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage) { request, page in
        entered.wrappingAdd(1, ordering: .relaxed)
        guard case .byte(let byte) = read(address + UInt(request.offset)) else { throw Refused() }
        page.append(repeating: byte, count: request.byteCount)
        return .filled
      }, byteCount: pages * pageBytes)
    let threads = (0..<pages).map { page in TestThread { _ = region.access(page * pageBytes) } }
    // The threads beyond the limit that the pool starts for such waits are used up.
    #expect(eventually { entered.load(ordering: .relaxed) >= PoolLimits.forWaits })
    try expectService(in: runtime, .standard)
    dam.open()
    for thread in threads { #expect(thread.join()) }
  }

  @Test("Threads that were started beside such calls end when the calls return", arguments: Stuck.allCases)
  func threadsEnd(kind: Stuck) throws {
    let dam = Dam()
    defer { dam.open() }
    let runtime = try runtime(kind.delivery, threads: 2)
    let regions = try (0..<6).map { _ in
      try runtime.map(dam.provider(permissions: kind.permissions), byteCount: pageBytes)
    }
    let pool = try #require(regions[0].server as? any PoolServer).pool
    let few = pool.threadCount
    let threads = regions.map { region in TestThread { _ = region.access(0) } }
    #expect(eventually { dam.callCount == 6 })
    #expect(pool.threadCount >= 6)
    // One for each region, beside those that a pool has in any case.
    #expect(pool.threadCount <= few + 6)
    dam.open()
    for thread in threads { #expect(thread.join()) }
    #expect(eventually { pool.threadCount == few })
    try expectService(in: runtime, kind.permissions)
  }

  @Test("Regions whose calls do not return are closed in time, and so is the runtime", arguments: Stuck.allCases)
  func closing(kind: Stuck) throws {
    let dam = Dam()
    defer { dam.open() }
    let closer = Later { () -> [Bool] in
      guard let runtime = try? runtime(kind.delivery) else { return [] }
      let regions = (0..<5).compactMap { _ in
        try? runtime.map(dam.provider(permissions: kind.permissions), byteCount: pageBytes)
      }
      let threads = regions.map { region in
        let address = region.address
        return TestThread { _ = read(address) }
      }
      guard eventually({ dam.callCount == 5 }) else { return [] }
      for region in regions { region.close() }
      return threads.map { $0.join() }
    }
    #expect(try closer.result() == Array(repeating: true, count: 5))
  }

  @Test("A slow provider that answers is asked by no more threads than its share, and no page of it fails")
  func slow() throws {
    let dam = Dam()
    defer { dam.open() }
    let runtime = try runtime(.eventLoop)
    let inside = Occupancy()
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage) { request, page in
        inside.enter()
        dam.hold()
        page.append(expectedBytes(request.range))
        inside.leave()
        return .filled
      }, byteCount: 12 * pageBytes)
    let threads = (0..<12).map { page in
      TestThread { #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
    }
    #expect(eventually { dam.callCount == 3 })
    // This needs a thread as soon as the calls have lasted for longer than the pool's patience.
    try expectService(in: runtime, .standard)
    let other = try runtime.map(dam.provider(), byteCount: pageBytes)
    let second = TestThread { _ = other.access(0) }
    #expect(eventually { dam.callCount == 4 })
    try expectService(in: runtime, .standard)
    #expect(inside.most == 3)
    dam.open()
    for thread in threads + [second] { #expect(thread.join()) }
    #expect(inside.most == 3)
    #expect(region.failures.isEmpty)
  }
}
