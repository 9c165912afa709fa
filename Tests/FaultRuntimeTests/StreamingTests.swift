import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Streaming ahead of a sequential reader", .timeLimit(.minutes(6)))
struct StreamingTests {
  private static let requestSize = RequestSize(preferred: 1, largest: 4 * pageBytes)

  private func runtime(pagesAhead: Int) throws -> FaultRuntime {
    var configuration = FaultRuntimeConfiguration(delivery: .eventLoop)
    configuration.streamDistance = pagesAhead * pageBytes
    configuration.handlerThreads = 1
    return try FaultRuntime(configuration)
  }

  /// Touches pages until requests have their largest size. The requests are for page 0, for pages 1 and 2, and for
  /// pages 3 to 6.
  private func startReading(_ region: LazyRegion) {
    for page in [0, 1, 3] { #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
  }

  @Test("Pages ahead are filled without a touch, so far and no farther")
  func streams() throws {
    let runtime = try runtime(pagesAhead: 20)
    let region = try runtime.map(patternProvider(requestSize: Self.requestSize), byteCount: 100 * pageBytes)
    startReading(region)
    #expect(eventually { region.isResident(26 * pageBytes) })
    // The reader continues after the filled pages, as if it had faulted all the way.
    #expect(region.access(26 * pageBytes) == .byte(expectedByte(26 * pageBytes)))
    #expect(runtime.statistics.faults == 3)
    #expect(runtime.statistics.bytesFilled == 27 * pageBytes)
    #expect(region.access(27 * pageBytes) == .byte(expectedByte(27 * pageBytes)))
    #expect(eventually { runtime.statistics.bytesFilled >= 51 * pageBytes })
    #expect(runtime.statistics.faults == 4)
    #expect(mismatches(in: region) == [])
  }

  @Test("It ends with the region, and keeps nothing of it")
  func endOfRegion() throws {
    let runtime = try runtime(pagesAhead: 1000)
    let region = try runtime.map(patternProvider(requestSize: Self.requestSize), byteCount: 30 * pageBytes + 9)
    startReading(region)
    #expect(eventually { runtime.statistics.bytesFilled == 31 * pageBytes })
    #expect(runtime.statistics.faults == 3)
    #expect(tailIsZero(region))
    #expect(mismatches(in: region) == [])
  }

  @Test("A fault that arrives meanwhile is the next thing to be served")
  func demandFirst() throws {
    let runtime = try runtime(pagesAhead: 200)
    let order = Monitor<[Int]>([])
    let mayFault = Gate()
    let hasFaulted = Gate()
    let region = try runtime.map(
      ClosureProvider(requestSize: Self.requestSize, permissions: .onHandler) { request, page in
        let first = request.offset / pageBytes
        order.withLock { $0.append(first) }
        if first == 15 {
          mayFault.open()
          hasFaulted.wait()
        }
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 400 * pageBytes)
    let far = 300 * pageBytes
    let address = region.address + UInt(far)
    let toucher = TestThread {
      mayFault.wait()
      #expect(read(address) == .byte(expectedByte(far)))
    }
    startReading(region)
    guard let loop = region.eventLoop else { return }
    #expect(eventually { waiters(on: loop.uffd.descriptor).unread == 1 })
    hasFaulted.open()
    #expect(toucher.join())
    let served = order.withLock { $0 }
    let at = try #require(served.firstIndex(of: 15))
    #expect(served[at + 1] == 300)
    // The stream continues after the fault.
    #expect(eventually { order.withLock { $0.contains(19) } })
  }

  @Test("A page ahead that cannot be had ends the stream, and fails nobody")
  func badPageAhead() throws {
    let runtime = try runtime(pagesAhead: 50)
    let region = try runtime.map(
      ClosureProvider(requestSize: Self.requestSize) { request, page in
        if request.range.contains(13 * pageBytes) { throw Refused() }
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 100 * pageBytes)
    startReading(region)
    #expect(eventually { region.isResident(10 * pageBytes) })
    // A stream would continue between these faults at other places.
    for page in (0..<20).map({ 99 - 2 * $0 }) {
      #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes)))
    }
    #expect(!region.isResident(20 * pageBytes))
    #expect(region.access(12 * pageBytes) == .byte(expectedByte(12 * pageBytes)))
    #expect(region.failures.isEmpty)
    #expect(region.access(13 * pageBytes) == .signal(SIGBUS))
    #expect(region.access(14 * pageBytes) == .byte(expectedByte(14 * pageBytes)))
    #expect(region.failures.map(\.offset) == [13 * pageBytes])
  }

  @Test("Closing while the handler streams ahead")
  func closing() throws {
    let runtime = try runtime(pagesAhead: 10_000)
    for _ in 0..<50 {
      let region = try runtime.map(patternProvider(requestSize: Self.requestSize), byteCount: 10_000 * pageBytes)
      startReading(region)
      region.close()
    }
    #expect(runtime.regionCount == 0)
    #expect(runtime.statistics.pagesFailed == 0)
  }
}
