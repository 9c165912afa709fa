import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

/// Each kind of memory can give pages back while the rest of it stays in use.
@Suite("Giving pages back", .timeLimit(.minutes(6)))
struct DiscardTests {
  /// The ways in which missing pages are told.
  enum Way: CaseIterable {
    case eventLoop, sigbus, guardMarkers, protection

    var configuration: FaultRuntimeConfiguration {
      switch self {
      case .eventLoop: FaultRuntimeConfiguration(delivery: .eventLoop)
      case .sigbus: FaultRuntimeConfiguration(delivery: .sigbus)
      case .guardMarkers: FaultRuntimeConfiguration(delivery: .sigsegv)
      case .protection: .byProtection
      }
    }
  }

  private static let pageCount = 8

  private let requests = Requests()
  private let isBroken = Monitor(false)

  private func region(_ way: Way) throws -> LazyRegion {
    try FaultRuntime(way.configuration).map(
      ClosureProvider(requestSize: .singlePage, permissions: .inMemory) { [requests, isBroken] request, page in
        requests.add(request)
        if isBroken.withLock({ $0 }) { throw Refused() }
        page.appendExpected(request)
        return .filled
      }, byteCount: Self.pageCount * pageBytes)
  }

  private func pages(_ pages: Range<Int>, of region: LazyRegion) -> AddressRange {
    AddressRange(start: region.address + UInt(pages.lowerBound * pageBytes), byteCount: pages.count * pageBytes)
  }

  private var askedPages: [Int] { requests.all.map { $0.offset / pageBytes } }

  private func presentPages(of region: LazyRegion) -> [Int] {
    (0..<Self.pageCount).filter { region.core.memory.isThere(region.address + UInt($0 * pageBytes)) }
  }

  @Test(
    "The next touch of a page that was given back asks for it again, and nothing else is asked for again",
    arguments: Way.allCases)
  func askedAgain(way: Way) throws {
    let region = try region(way)
    for page in 0..<Self.pageCount {
      #expect(write(UInt8(page), to: region.address + UInt(page * pageBytes)) == .byte(UInt8(page)))
    }
    #expect(region.core.memory.discard(pages(2..<5, of: region)) == nil)
    #expect(presentPages(of: region) == [0, 1, 5, 6, 7])
    for page in 0..<Self.pageCount {
      let expected = (2..<5).contains(page) ? expectedByte(page * pageBytes) : UInt8(page)
      #expect(region.access(page * pageBytes) == .byte(expected))
    }
    #expect(askedPages == [0, 1, 2, 3, 4, 5, 6, 7, 2, 3, 4])
    #expect(region.failures.isEmpty)
  }

  @Test("Giving back pages that are not there changes nothing", arguments: Way.allCases)
  func missing(way: Way) throws {
    let region = try region(way)
    #expect(region.core.memory.discard(pages(0..<Self.pageCount, of: region)) == nil)
    #expect(presentPages(of: region) == [])
    #expect(region.access(3 * pageBytes) == .byte(expectedByte(3 * pageBytes)))
    #expect(askedPages == [3])
  }

  @Test("A page that failed is asked for again after it was given back", arguments: Way.allCases)
  func failed(way: Way) throws {
    let region = try region(way)
    isBroken.withLock { $0 = true }
    #expect(region.access(pageBytes) == .signal(way.configuration.delivery.signal))
    isBroken.withLock { $0 = false }
    #expect(region.core.memory.discard(pages(1..<2, of: region)) == nil)
    #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
  }

  @Test("A page is copied only where it is there, and is not asked for", arguments: Way.allCases)
  func copied(way: Way) throws {
    let region = try region(way)
    let scratch = Scratch(pages: 1)
    func copies(_ page: Int) -> Bool {
      unsafe region.core.memory.copyIfPresent(
        pages(page..<(page + 1), of: region), to: UnsafeMutableRawPointer(mutating: scratch.pointer))
    }
    #expect(!copies(1))
    #expect(region.access(pageBytes + 5) == .byte(expectedByte(pageBytes + 5)))
    #expect(copies(1))
    #expect(TestSupport.read(scratch.page(0).start + 5) == .byte(expectedByte(pageBytes + 5)))
    isBroken.withLock { $0 = true }
    #expect(region.access(2 * pageBytes) != .byte(expectedByte(2 * pageBytes)))
    #expect(!copies(2))
    #expect(region.core.memory.discard(pages(1..<2, of: region)) == nil)
    #expect(!copies(1))
    #expect(askedPages == [1, 2])
  }

  @Test("The runs of open pages are counted when pages between them are given back")
  func runs() throws {
    let region = try region(.protection)
    let memory = try #require(region.twin)
    func runs(after discarded: Range<Int>) -> Int {
      #expect(memory.discard(pages(discarded, of: region)) == nil)
      return memory.runs.withLock { $0 }
    }
    #expect(mismatches(in: region) == [])
    #expect(runs(after: 3..<4) == 2)
    #expect(runs(after: 3..<4) == 2)
    #expect(runs(after: 0..<1) == 2)
    #expect(runs(after: 7..<8) == 2)
    #expect(runs(after: 5..<6) == 3)
    #expect(runs(after: 2..<7) == 1)
    #expect(presentPages(of: region) == [1])
    #expect(runs(after: 0..<8) == 0)
    #expect(mismatches(in: region) == [])
    #expect(memory.runs.withLock { $0 } == 1)
  }

  @Test(
    "Threads that touch pages while they are given back always see what the provider gives", arguments: Way.allCases)
  func touchedMeanwhile(way: Way) throws {
    let region = try region(way)
    let address = region.address
    let isDone = Atomic<Bool>(false)
    let wrong = Atomic<Int>(0)
    let readers = (0..<2).map { _ in
      TestThread {
        while !isDone.load(ordering: .relaxed) {
          for offset in stride(from: 0, to: Self.pageCount * pageBytes, by: pageBytes)
          where TestSupport.read(address + UInt(offset)) != .byte(expectedByte(offset)) {
            wrong.wrappingAdd(1, ordering: .relaxed)
          }
        }
      }
    }
    for first in 0..<500 {
      let part = (first % 4)..<(first % 4 + 1 + first % 5)
      #expect(region.core.memory.discard(pages(part, of: region)) == nil)
    }
    isDone.store(true, ordering: .relaxed)
    for reader in readers { #expect(reader.join()) }
    #expect(wrong.load(ordering: .relaxed) == 0)
  }

  @Test(
    "A thread waits for the end where giving back the page that it touches takes long",
    arguments: [Way.guardMarkers, .protection])
  func touchedLong(way: Way) throws {
    let region = try region(way)
    let memory = try #require(region.twin)
    let server = try #require(region.server as? SigsegvServer)
    #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
    let page = pages(1..<2, of: region)
    let reader = memory.runs.withLock { _ in
      let take = memory.isGuarded ? cuffd_guards_install : cuffd_protect_none
      #expect(take(UInt64(page.start), page.byteCount) == 0)
      let reader = Later { TestSupport.read(page.start) }
      #expect(eventually { server.statistics.pagesAlreadyPresent >= 998 })
      for _ in 0..<1000 { sched_yield() }
      memory.setState(1, TwinMemory.PageState.absent)
      return reader
    }
    #expect(try reader.result() == .byte(expectedByte(pageBytes)))
    #expect(askedPages == [1, 1])
  }

  @Test("What the program has mapped in the place of pages stays when the pages around it are given back")
  func replaced() throws {
    let region = try region(.eventLoop)
    #expect(mismatches(in: region) == [])
    let place = pages(3..<4, of: region)
    let start = unsafe UnsafeMutableRawPointer(bitPattern: place.start)
    let flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS
    let taken = unsafe mmap(start, pageBytes, PROT_READ | PROT_WRITE, flags, -1, 0)
    try #require(UInt(bitPattern: taken) == place.start)
    #expect(write(77, to: place.start) == .byte(77))
    #expect(eventually { region.core.memory.parts.withLock { $0.ranges.count == 2 } })
    #expect(region.core.memory.discard(pages(1..<6, of: region)) == nil)
    #expect(TestSupport.read(place.start) == .byte(77))
    for page in [1, 2, 4, 5] { #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
    #expect(askedPages.suffix(4) == [1, 2, 4, 5])
    #expect(cuffd_unmap(UInt64(place.start), pageBytes) == 0)
  }

  @Test(
    "Around a hole that the program has made, every page that is left is given back, and the error is reported",
    arguments: [Way.guardMarkers, .protection])
  func hole(way: Way) throws {
    let region = try region(way)
    #expect(mismatches(in: region) == [])
    let hole = pages(3..<4, of: region)
    #expect(cuffd_unmap(UInt64(hole.start), hole.byteCount) == 0)
    #expect(region.core.memory.discard(pages(1..<6, of: region)) != nil)
    for page in [1, 2, 4, 5] {
      #expect(!region.core.memory.isThere(region.address + UInt(page * pageBytes)))
      #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes)))
    }
    #expect(askedPages.suffix(4) == [1, 2, 4, 5])
  }
}
