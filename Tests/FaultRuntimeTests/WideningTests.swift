import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Requests that grow while accesses run on", .timeLimit(.minutes(6)))
struct WideningTests {
  /// Makes a region whose requests are recorded. The provider throws an error for pages for which `isBad` returns
  /// true.
  private func region(
    _ asker: Asker, pages: Int, largest: Int = 8, unit: Int = 1, advice: RegionOptions.Advice = .normal,
    _ requests: Log<Range<Int>>, isBad: @escaping @Sendable (Int) -> Bool = { _ in false }
  ) throws -> LazyRegion {
    var configuration = FaultRuntimeConfiguration(delivery: asker.delivery)
    configuration.streamDistance = 0
    let runtime = try FaultRuntime(configuration)
    let provider = ClosureProvider(
      requestSize: RequestSize(preferred: unit * pageBytes, largest: largest * pageBytes),
      permissions: asker.permissions
    ) { request, page in
      requests.add(request.pages)
      guard !request.pages.contains(where: isBad) else { throw Refused() }
      page.append(expectedBytes(request.range))
      return .filled
    }
    return try runtime.map(provider, byteCount: pages * pageBytes - 5, options: RegionOptions(advice: advice))
  }

  private func touch(_ region: LazyRegion, _ pages: some Sequence<Int>) {
    for page in pages { #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
  }

  @Test("From page to page: 1, 2, 4, up to the largest, and never past the end", arguments: Asker.allCases)
  func sequential(asker: Asker) throws {
    let requests = Log<Range<Int>>()
    let region = try region(asker, pages: 27, requests)
    touch(region, 0..<27)
    #expect(requests.all == [0..<1, 1..<3, 3..<7, 7..<15, 15..<23, 23..<27])
    #expect(mismatches(in: region) == [])
    #expect(tailIsZero(region))
  }

  @Test("Here and there: one page each", arguments: Asker.allCases)
  func scattered(asker: Asker) throws {
    let requests = Log<Range<Int>>()
    let region = try region(asker, pages: 64, requests)
    let order = (0..<32).map { $0 * 37 % 64 }
    touch(region, order)
    #expect(requests.all == order.map { $0..<($0 + 1) })
  }

  @Test("Accesses that stop running on make it small again", arguments: Asker.allCases)
  func shrinking(asker: Asker) throws {
    let requests = Log<Range<Int>>()
    let region = try region(asker, pages: 200, requests)
    touch(region, 0..<15)
    touch(region, [100, 50, 150])
    #expect(requests.all.suffix(3) == [100..<101, 50..<51, 150..<151])
    // The library still knows the first stream.
    touch(region, [15])
    #expect(requests.all.last == 15..<23)
  }

  @Test("Readers in several places each have a stream of their own", arguments: Asker.allCases)
  func interleaved(asker: Asker) throws {
    let requests = Log<Range<Int>>()
    let region = try region(asker, pages: 120, requests)
    for page in 0..<30 { touch(region, [page, 40 + page, 80 + page]) }
    #expect(requests.all.count { $0.count == 8 } >= 6)
  }

  @Test("A unit is the least and the step", arguments: Asker.allCases)
  func units(asker: Asker) throws {
    let requests = Log<Range<Int>>()
    let region = try region(asker, pages: 40, largest: 12, unit: 4, requests)
    touch(region, 0..<40)
    #expect(requests.all == [0..<4, 4..<12, 12..<20, 20..<28, 28..<36, 36..<40])
  }

  @Test("What the program knows about its accesses counts more", arguments: Asker.allCases)
  func advice(asker: Asker) throws {
    let random = Log<Range<Int>>()
    touch(try region(asker, pages: 20, advice: .random, random), 0..<20)
    #expect(random.all == (0..<20).map { $0..<($0 + 1) })
    let sequential = Log<Range<Int>>()
    touch(try region(asker, pages: 20, advice: .sequential, sequential), 0..<20)
    #expect(sequential.all == [0..<8, 8..<16, 16..<20])
  }

  @Test("Pages that are there keep their bytes, and end the growth", arguments: Asker.allCases)
  func present(asker: Asker) throws {
    let requests = Log<Range<Int>>()
    let region = try region(asker, pages: 200, requests)
    for page in [9, 11, 13] {
      #expect(write(7, to: region.address + UInt(page * pageBytes)) == .byte(7))
    }
    // After these touches, none of the pages behind the written ones is the next page of a stream.
    touch(region, (0..<8).map { 100 + 10 * $0 })
    let before = requests.all.count
    touch(region, 0..<9)
    // Pages 7 to 14 were requested. Only pages 7 and 8 were missing before the first present page.
    #expect(requests.all.dropFirst(before) == [0..<1, 1..<3, 3..<7, 7..<15])
    for page in [9, 11, 13] { #expect(region.access(page * pageBytes) == .byte(7)) }
    touch(region, [10, 12, 14])
    #expect(requests.all.suffix(3) == [10..<11, 12..<13, 14..<15])
  }

  @Test("A bad page ahead fails nobody but those who touch it", arguments: Asker.allCases)
  func badPageAhead(asker: Asker) throws {
    let requests = Log<Range<Int>>()
    let region = try region(asker, pages: 40, requests) { $0 == 12 }
    touch(region, 0..<12)
    #expect(region.failures.isEmpty)
    #expect(region.access(12 * pageBytes) == .signal(region.failureSignal))
    #expect(region.failures.map(\.offset) == [12 * pageBytes])
    touch(region, 13..<40)
    #expect(requests.all.last?.count ?? 0 > 1)
  }

  @Test("Writes over zeros get memory of their own at once", arguments: Asker.allCases)
  func zeros(asker: Asker) throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: asker.delivery))
    let region = try runtime.map(ZeroProvider(), byteCount: 100 * pageBytes)
    for page in 0..<100 { #expect(write(3, to: region.address + UInt(page * pageBytes + 1)) == .byte(3)) }
    for page in 0..<100 { #expect(region.access(page * pageBytes) == .byte(0)) }
    #expect(runtime.statistics.requests < 10)
    #expect(runtime.statistics.bytesFilled == 100 * pageBytes)
  }

  @Test("A write brings zeros that can be written as far as it was widened", arguments: Asker.allCases)
  func zerosAhead(asker: Asker) throws {
    var configuration = FaultRuntimeConfiguration(delivery: asker.delivery)
    configuration.streamDistance = 0
    let runtime = try FaultRuntime(configuration)
    let region = try runtime.map(ZeroProvider(), byteCount: 100 * pageBytes)
    for page in [0, 1, 3] { #expect(write(3, to: region.address + UInt(page * pageBytes)) == .byte(3)) }
    #expect(runtime.statistics.bytesFilled == 7 * pageBytes)
    // The zero page, which all mappings share, would not count here.
    if asker != .protection { #expect(region.kernelCount("Anonymous") == 7 * pageBytes) }
  }

  @Test("A stream goes on, is met in its latest part, is left, and is found again")
  func streams() {
    let streams = AccessStreams()
    #expect(streams.window(from: 0, count: 1, largest: 16) == 1)
    #expect(streams.window(from: 1, count: 1, largest: 16) == 2)
    #expect(streams.window(from: 3, count: 1, largest: 16) == 4)
    // This page is in flight, or was left out.
    #expect(streams.window(from: 5, count: 1, largest: 16) == 1)
    #expect(streams.window(from: 7, count: 1, largest: 16) == 8)
    // A few units were skipped, so the window keeps its width.
    #expect(streams.window(from: 17, count: 1, largest: 16) == 8)
    #expect(streams.window(from: 25, count: 3, largest: 20) == 16)
    #expect(streams.window(from: 41, count: 1, largest: 20) == 16)
    streams.shrink(goingOnAt: 57, insteadAt: 50)
    #expect(streams.window(from: 50, count: 1, largest: 20) == 2)
    // After eight other streams, the stream is forgotten.
    for other in 1...8 { #expect(streams.window(from: other * 1000, count: 1, largest: 20) == 1) }
    #expect(streams.window(from: 52, count: 1, largest: 20) == 1)
    // The window never falls below what the fault needs.
    #expect(streams.window(from: 5000, count: 30, largest: 20) == 30)
  }
}
