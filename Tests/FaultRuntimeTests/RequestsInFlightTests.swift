import Testing

@testable import FaultRuntime

/// What the pool is asked for while other requests of the same region are under way.
@Suite("Requests beside others", .timeLimit(.minutes(6)))
struct RequestsInFlightTests {
  private let inFlight = RequestsInFlight()

  /// Returns the pages of the request that a fault on `page` leads to, in a region whose requests are for eight pages.
  /// Nil where the fault waits for another request.
  private func asked(page: Int, of region: Region) -> Range<Int>? {
    let fault = PendingFault(page: region.address(of: page * pageBytes), isWrite: false)
    let run = FaultRun(region: region, fault: fault, index: 0)
    var pages: Range<Int>?
    _ = inFlight.admit(
      fault, of: run, submit: { pages = ($0.start / pageBytes)..<($0.end / pageBytes) }, resubmit: { _ in })
    return pages
  }

  @Test("A request takes the pages around its fault that no other request has")
  func gaps() throws {
    let region = try Region(
      testing: patternProvider(requestSize: RequestSize(preferred: 8 * pageBytes, largest: 8 * pageBytes)),
      byteCount: 32 * pageBytes)
    let job = PoolPrefetch(region, 0..<(32 * pageBytes))
    // Pages 2 and 3, page 6, and pages 14 to 16.
    for pages in [2..<4, 6..<7, 14..<17] {
      let claimed = inFlight.claim(for: job, from: pages.lowerBound * pageBytes, to: pages.upperBound * pageBytes)
      #expect(claimed != nil)
    }
    #expect(asked(page: 3, of: region) == nil)
    #expect(asked(page: 0, of: region) == 0..<2)
    #expect(asked(page: 1, of: region) == nil)
    #expect(asked(page: 5, of: region) == 4..<6)
    #expect(asked(page: 7, of: region) == 7..<8)
    #expect(asked(page: 12, of: region) == 8..<14)
    #expect(asked(page: 23, of: region) == 17..<24)
    #expect(asked(page: 24, of: region) == 24..<32)
  }

  @Test("Requests of another region are not in the way")
  func otherRegion() throws {
    let provider = patternProvider(requestSize: RequestSize(preferred: 8 * pageBytes, largest: 8 * pageBytes))
    let regions = try (0..<2).map { _ in try Region(testing: provider, byteCount: 8 * pageBytes) }
    #expect(asked(page: 3, of: regions[0]) == 0..<8)
    #expect(asked(page: 3, of: regions[1]) == 0..<8)
    #expect(asked(page: 3, of: regions[0]) == nil)
  }
}
