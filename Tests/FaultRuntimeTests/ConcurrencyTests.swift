import CUFFD
import Glibc
import Synchronization
import Testing

@testable import FaultRuntime

@Suite("Many threads", .timeLimit(.minutes(3)))
struct ConcurrencyTests {
  @Test("Threads on overlapping pages all read the right bytes", arguments: [1, 2, 3, 4, 8, 16])
  func overlappingPages(threadCount: Int) throws {
    let runtime = try FaultRuntime()
    let pages = 200
    let region = try runtime.map(
      patternProvider(seed: threadCount, requestSize: RequestSize(preferred: 2 * pageBytes, largest: 8 * pageBytes)),
      byteCount: pages * pageBytes)
    let wrong = Atomic<Int>(0)
    let threads = (0..<threadCount).map { index in
      TestThread {
        // Each thread walks all pages with a stride of its own, so that every page is fought for.
        let stride = [7, 11, 13, 17, 19, 23, 29, 31][index % 8]
        for step in 0..<pages {
          let offset = (step * stride + index) % pages * pageBytes + index
          if region.access(offset) != .byte(expectedByte(offset, seed: threadCount)) {
            wrong.wrappingAdd(1, ordering: .relaxed)
          }
        }
      }
    }
    for thread in threads { #expect(thread.join()) }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(region.failures.isEmpty)
    #expect(waiters(on: region.descriptor).all == 0)
    #expect(runtime.statistics.faults >= pages / 8)
  }

  @Test("Hundreds of regions come and go while others fault", arguments: [1, 2])
  func churn(handlerThreads: Int) throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(handlerThreads: handlerThreads))
    let lasting = try runtime.map(patternProvider(seed: 1), byteCount: 2000 * pageBytes)
    let stop = Atomic<Bool>(false)
    let wrong = Atomic<Int>(0)

    let readers = (0..<2).map { index in
      TestThread {
        for step in 0..<2000 {
          let offset = (step * 3 + index * 1000) % 2000 * pageBytes + step
          if lasting.access(offset) != .byte(expectedByte(offset, seed: 1)) { wrong.wrappingAdd(1, ordering: .relaxed) }
        }
        stop.store(true, ordering: .relaxed)
      }
    }
    let mapped = Atomic<Int>(0)
    let churners = (0..<2).map { index in
      TestThread {
        var round = 0
        while round < 150 || !stop.load(ordering: .relaxed) {
          let seed = 10 + index * 1000 + round % 100
          guard let region = try? runtime.map(patternProvider(seed: seed), byteCount: (1 + round % 5) * pageBytes)
          else {
            wrong.wrappingAdd(1, ordering: .relaxed)
            return
          }
          let offset = round % 5 * pageBytes + round % 50
          if region.access(offset) != .byte(expectedByte(offset, seed: seed)) {
            wrong.wrappingAdd(1, ordering: .relaxed)
          }
          mapped.wrappingAdd(1, ordering: .relaxed)
          round += 1
        }
      }
    }
    for thread in readers + churners { #expect(thread.join()) }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(mapped.load(ordering: .relaxed) >= 300)
    #expect(runtime.regionCount == 1)
    #expect(mismatches(in: lasting, seed: 1).isEmpty)
  }

  @Test("Five hundred regions are open at once, each with its own bytes")
  func manyRegions() throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(handlerThreads: 2))
    let regions = try (0..<500).map { try runtime.map(patternProvider(seed: $0), byteCount: pageBytes + 1) }
    #expect(runtime.regionCount == 500)
    for (seed, region) in regions.enumerated().reversed() {
      #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes, seed: seed)))
    }
  }

  @Test(
    "Pages that are discarded behind the runtime's back are asked for again, through a storm of events",
    arguments: [true, false])
  func eventStorm(retriesAtOnce: Bool) throws {
    var configuration = FaultRuntimeConfiguration()
    configuration.additionalFeatures = .eventRemove
    // Without immediate retries, every EAGAIN takes the way over the timer.
    if !retriesAtOnce { configuration.immediateRetries = 0 }
    let runtime = try FaultRuntime(configuration)
    let pages = 32
    let region = try runtime.map(patternProvider(), byteCount: pages * pageBytes)
    let address = region.address
    let wrong = Atomic<Int>(0)
    let isDone = Atomic<Bool>(false)
    let progress = Atomic<Int>(0)
    let work = Atomic<Int>(0)
    let readers = (0..<3).map { index in
      TestThread {
        for step in 0..<(retriesAtOnce ? 1000 : 300) {
          let offset = (step * 7 + index) % pages * pageBytes
          if read(address + UInt(offset)) != .byte(expectedByte(offset)) { wrong.wrappingAdd(1, ordering: .relaxed) }
          progress.wrappingAdd(1, ordering: .relaxed)
        }
      }
    }
    let discarder = TestThread {
      var step = 0
      while !isDone.load(ordering: .relaxed) {
        let start = unsafe UnsafeMutableRawPointer(bitPattern: address + UInt(step * 5 % pages * pageBytes))
        let before = progress.load(ordering: .relaxed)
        unsafe madvise(start, pageBytes, MADV_DONTNEED)
        step += 1
        // The kernel resolves nothing from one event to the next; a thread that does nothing but cause them starves
        // everybody else. This one does some work in between, and waits for others where only the timer tries again.
        for _ in 0..<2000 { work.wrappingAdd(1, ordering: .relaxed) }
        while !retriesAtOnce, progress.load(ordering: .relaxed) == before, !isDone.load(ordering: .relaxed) {
          sched_yield()
        }
      }
    }
    for reader in readers { #expect(reader.join()) }
    isDone.store(true, ordering: .relaxed)
    #expect(discarder.join())
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(region.failures.isEmpty)
    #expect(runtime.statistics.faults > pages)
    // The kernel asked for patience at least once, or the storm was none.
    #expect(runtime.statistics.deferrals > 0)
  }
}

@Suite("The table of regions", .timeLimit(.minutes(1)))
struct RegionTableTests {
  private func core(_ pages: Int) throws -> RegionCore {
    try RegionCore(
      provider: ZeroProvider(), byteCount: pages * pageBytes, options: RegionOptions(), name: "r", pageSize: .ofHost())
  }

  @Test("An address finds its region, from the first byte to the last and no further")
  func lookup() throws {
    let table = RegionTable()
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

  @Test("A range that touches a region by one byte intersects it")
  func intersection() throws {
    let table = RegionTable()
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
    let table = RegionTable()
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
    weak var removed: RegionCore?
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

  @Test("Reports of present pages are counted for each page, and can be forgotten")
  func presentReports() {
    var reports = PresentReports()
    let size = PageSize.ofHost()
    let page = UInt(pageBytes)
    for _ in 0..<3 { reports.add(page, pageSize: size) }
    #expect(reports.count(for: page, pageSize: size) == 3)
    #expect(reports.count(for: 2 * page, pageSize: size) == 0)
    // The same slot: the older page is forgotten.
    reports.add(65 * page, pageSize: size)
    #expect(reports.count(for: page, pageSize: size) == 0)
    #expect(reports.count(for: 65 * page, pageSize: size) == 1)
    reports.forget(65 * page, pageSize: size)
    #expect(reports.count(for: 65 * page, pageSize: size) == 0)
  }
}
