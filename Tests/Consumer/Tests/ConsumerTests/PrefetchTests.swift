import Archive
import FaultRuntime
import Testing

@Suite("Prefetch and statistics", .timeLimit(.minutes(6)))
struct PrefetchTests {
  private let page = Host.pageSize

  @Test("What was prefetched is not asked for again", arguments: Host.deliveries)
  func prefetch(_ delivery: Delivery) throws {
    let archive = TornArchive(byteCount: 8 * page)
    let region = try makeRuntime(delivery).map(archive)
    try region.prefetch(page..<page)
    #expect(archive.requests == 0)
    try region.prefetch((page + 1)..<(3 * page))
    #expect(archive.requests == 2)
    #expect(try region.read(page..<(3 * page)).allSatisfy { $0 == 0xA5 })
    #expect(unsafe region.unsafeBytes[page..<(3 * page)].allSatisfy { $0 == 0xA5 })
    #expect(archive.requests == 2)
    try region.populate()
    #expect(archive.requests == 8)
  }

  @Test("Nothing is asked for before it is touched", arguments: Host.deliveries)
  func lazy(_ delivery: Delivery) throws {
    let archive = TornArchive(byteCount: 1 << 40)
    let region = try makeRuntime(delivery).map(archive)
    #expect(archive.requests == 0)
    #expect(unsafe region.unsafeBytes[1 << 39] == 0xA5)
    #expect(archive.requests == 1)
  }

  @Test("What was done is counted", arguments: Host.deliveries)
  func statistics(_ delivery: Delivery) throws {
    let runtime = try makeRuntime(delivery)
    #expect(runtime.statistics.faults == 0)
    let region = try runtime.map(
      Squares(byteCount: 64 * page, requestSize: .singlePage), options: RegionOptions(advice: .random))
    for index in stride(from: 0, to: 64, by: 16) {
      #expect(mismatches(region, (index * page)..<(index * page + 1)) == 0)
    }
    let statistics = runtime.statistics
    #expect(statistics.faults == 4)
    #expect(statistics.requests == 4)
    #expect(statistics.bytesFilled == 4 * page)
    #expect(statistics.pagesFailed == 0)
  }
}
