import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("The table of regions", .timeLimit(.minutes(6)))
struct RegionTableTests {
  private func core(_ pages: Int) throws -> Region {
    try Region(testing: ZeroProvider(), byteCount: pages * pageBytes)
  }

  @Test("An address finds its region, from the first byte to the last and no further")
  func lookup() throws {
    let table = RegionTable<Region>()
    #expect(table.region(containing: 0) == nil)
    let cores = try (1...20).map { try core($0) }
    for core in cores.shuffled() { table.insert(core) }
    for core in cores {
      #expect(table.region(containing: core.range.start) === core)
      #expect(table.region(containing: core.range.end - 1) === core)
      #expect(table.region(containing: core.range.end) !== core)
      #expect(table.region(containing: core.range.start - 1) !== core)
    }
    for core in cores.shuffled() {
      table.remove(core)
      #expect(table.region(containing: core.range.start) == nil)
    }
    #expect(table.count == 0)
  }

  @Test("A range is searched for regions of one group, whatever lies beside them")
  func groups() throws {
    let table = RegionTable<Region>()
    let regions = try (0..<6).map { _ in try core(1) }.sorted { $0.range.start < $1.range.start }
    for region in regions { table.insert(region) }
    defer { for region in regions { table.remove(region) } }
    let first = regions[0].range.start
    let everything = AddressRange(start: first, byteCount: Int(regions[5].range.end - first))
    for (index, region) in regions.enumerated() {
      // Each region is a group of its own, and the range around all of them is in every group.
      let group = RegionGroup(table: table, id: region.group)
      #expect(group.intersects(everything))
      #expect(group.intersects(AddressRange(start: region.range.start - 5, byteCount: 6)))
      #expect(group.intersects(AddressRange(start: region.range.end - 1, byteCount: 100)))
      #expect(
        !group.intersects(AddressRange(start: region.range.end, byteCount: Int(everything.end - region.range.end))))
      #expect(!group.intersects(AddressRange(start: first, byteCount: Int(region.range.start - first))))
      #expect(!group.intersects(AddressRange(start: region.range.start, byteCount: 0)))
      #expect(!RegionGroup(table: table, id: ObjectIdentifier(table)).intersects(everything))
      var free = FreeMemory(group)
      let findings = [free.isLazy(region.range), free.isLazy(regions[(index + 1) % 6].range)]
      #expect(findings == [true, false])
    }
  }

  @Test("A range that touches a region by one byte intersects it")
  func intersection() throws {
    let table = RegionTable<Region>()
    let core = try core(2)
    table.insert(core)
    let start = core.range.start
    #expect(table.intersects(AddressRange(start: start - 10, byteCount: 11)))
    #expect(!table.intersects(AddressRange(start: start - 10, byteCount: 10)))
    #expect(table.intersects(AddressRange(start: core.range.end - 1, byteCount: 100)))
    #expect(!table.intersects(AddressRange(start: core.range.end, byteCount: 100)))
    #expect(table.intersects(AddressRange(start: start - 10, byteCount: 1 << 20)))
    #expect(!table.intersects(AddressRange(start: start, byteCount: 0)))
  }

  @Test("Readers find what stays while writers change the rest, and a removed region is freed")
  func concurrentReaders() throws {
    let table = RegionTable<Region>()
    let staying = try core(3)
    table.insert(staying)
    let isDone = Atomic<Bool>(false)
    let missed = Atomic<Int>(0)
    let readers = (0..<3).map { _ in
      TestThread {
        while !isDone.load(ordering: .relaxed) {
          if table.region(containing: staying.range.start + 5) !== staying {
            missed.wrappingAdd(1, ordering: .relaxed)
          }
        }
      }
    }
    weak var removed: Region?
    for _ in 0..<400 {
      let passing = try core(1)
      removed = passing
      table.insert(passing)
      #expect(table.region(containing: passing.range.start) === passing)
      table.remove(passing)
    }
    isDone.store(true, ordering: .relaxed)
    for reader in readers { #expect(reader.join()) }
    #expect(missed.load(ordering: .relaxed) == 0)
    #expect(removed == nil)
  }

  /// A member of a table that is nothing but its addresses.
  private final class Place: TableMember {
    let range: AddressRange
    var group: ObjectIdentifier { ObjectIdentifier(self) }

    init(_ addresses: Range<UInt>) {
      range = AddressRange(start: addresses.lowerBound, byteCount: addresses.count)
    }
  }

  @Test("The gap around a range goes from the region in front of it to the region behind it")
  func gaps() {
    let table = RegionTable<Place>()
    func gap(_ start: UInt, _ byteCount: Int) -> Range<UInt>? {
      table.gap(around: AddressRange(start: start, byteCount: byteCount)).map { $0.start..<$0.end }
    }
    #expect(gap(0x1000, 1)?.lowerBound == 0)
    let places = [Place(0x3000..<0x4000), Place(0x1000..<0x2000), Place(0x4000..<0x5000)]
    for place in places { table.insert(place) }
    for (start, byteCount) in [(0x10, 0x10), (0, 0x1000), (0xfff, 1)] as [(UInt, Int)] {
      #expect(gap(start, byteCount) == 0..<0x1000)
    }
    for (start, byteCount) in [(0x2000, 0x1000), (0x2000, 1), (0x2fff, 1)] as [(UInt, Int)] {
      #expect(gap(start, byteCount) == 0x2000..<0x3000)
    }
    #expect(gap(0x5000, 1)?.lowerBound == 0x5000)
    #expect((gap(0x5000, 1)?.upperBound ?? 0) > 1 << 60)
    // A byte in common with a region is enough, at either end of the region and in its middle.
    let touching: [(UInt, Int)] = [
      (0xfff, 2), (0x1000, 1), (0x1800, 8), (0x1fff, 1), (0x1fff, 2), (0x2fff, 2), (0x4fff, 9), (0x800, 0x8000),
    ]
    for (start, byteCount) in touching {
      #expect(gap(start, byteCount) == nil)
      #expect(table.intersects(AddressRange(start: start, byteCount: byteCount)))
    }
    table.remove(places[0])
    #expect(gap(0x2800, 1) == 0x2000..<0x4000)
    #expect(table.next(after: 0) == 0x1000)
    #expect(table.next(after: 0x1000) == 0x4000)
    #expect(table.next(after: 0x3fff) == 0x4000)
    #expect(table.next(after: 0x4000) == nil)
  }

  @Test("A region that overlaps another one is not added where that may happen, and one that touches it is")
  func overlaps() {
    let table = RegionTable<Place>()
    table.insert(Place(0x2000..<0x4000))
    for addresses: Range<UInt> in [
      0x2000..<0x4000, 0x1000..<0x3000, 0x3000..<0x5000, 0x1000..<0x5000, 0x2800..<0x3000, 0x2000..<0x3000,
    ] {
      #expect(!table.insertIfFree(Place(addresses)))
      #expect(table.count == 1)
    }
    #expect(table.insertIfFree(Place(0x1000..<0x2000)))
    #expect(table.insertIfFree(Place(0x4000..<0x5000)))
    #expect(table.count == 3)
  }

  @Test("A region that a reader may still see is not given up before the reader has left")
  func writerWaits() {
    let table = RegionTable<Place>()
    let isReading = Atomic<Bool>(false)
    for _ in 0..<20 {
      let place = Place(0x1000..<0x2000)
      table.insert(place)
      let generation = table.generation
      let isInside = Gate()
      let reader = TestThread {
        unsafe table.reading { _ in
          isReading.store(true, ordering: .sequentiallyConsistent)
          isInside.open()
          eventually { table.generation != generation }
          // These yields give a writer that does not wait the time to show itself.
          for _ in 0..<1000 { sched_yield() }
          isReading.store(false, ordering: .sequentiallyConsistent)
        }
      }
      isInside.wait()
      table.remove(place)
      let wasReading = isReading.load(ordering: .sequentiallyConsistent)
      #expect(!wasReading)
      #expect(reader.join())
    }
  }

  @Test("A child that was forked while others were reading can change the table")
  func forkedWhileRead() async {
    // The threads of other tests may hold locks of Swift's runtime, so a process of its own forks.
    await #expect(processExitsWith: .success) {
      let table = RegionTable<Region>()
      let staying = try Region(testing: ZeroProvider(), byteCount: 3 * pageBytes)
      table.insert(staying)
      #expect(table.region(containing: staying.range.start + 5) === staying)
      let isDone = Atomic<Bool>(false)
      let readers = (0..<3).map { _ in
        TestThread {
          while !isDone.load(ordering: .relaxed) { _ = table.region(containing: staying.range.start + 5) }
        }
      }
      let added = try Region(testing: ZeroProvider(), byteCount: pageBytes)
      for _ in 0..<100 {
        let result = unsafe withUnsafePointer(to: (table, added)) { pointer in
          unsafe cts_forked(
            { context in
              cts_end_after(20)
              let (table, added) = unsafe context.assumingMemoryBound(to: (RegionTable<Region>, Region).self).pointee
              table.insert(added)
              return 42
            }, UnsafeMutableRawPointer(mutating: UnsafeRawPointer(pointer)))
        }
        #expect(result == 42)
        // Each child that hangs takes all of its time.
        if result != 42 { break }
      }
      isDone.store(true, ordering: .relaxed)
      for reader in readers { #expect(reader.join()) }
    }
  }

  @Test("Reports of present pages are counted for each page, and are forgotten after a quiet second")
  func presentReports() {
    var reports = PresentReports()
    let second: UInt64 = 1_000_000_000
    for time: UInt64 in [10, 11, 12] { reports.add(1, now: time * second / 10) }
    #expect(reports.count(for: 1, now: 2 * second) == 3)
    #expect(reports.count(for: 2, now: 2 * second) == 0)
    #expect(reports.count(for: 1, now: 3 * second) == 0)
    reports.add(1, now: 3 * second)
    #expect(reports.count(for: 1, now: 3 * second) == 1)
    // Many pages are reported at once. The page without a report for the longest time makes room, and the others keep
    // their counts.
    for page in 2...65 { reports.add(UInt(page), now: 3 * second + UInt64(page)) }
    #expect(reports.count(for: 1, now: 3 * second + 100) == 0)
    #expect(reports.count(for: 2, now: 3 * second + 100) == 1)
    reports.forget(65)
    #expect(reports.count(for: 65, now: 3 * second + 100) == 0)
  }
}
