import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Many threads", .timeLimit(.minutes(6)))
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
        // Each thread walks all pages with a stride of its own, so that the threads compete for every page.
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
    #expect(waiters(on: region.descriptorNumber).all == 0)
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
    // Without immediate retries, every EAGAIN is retried by the timer.
    if !retriesAtOnce { configuration.immediateRetries = 0 }
    configuration.handlerThreads = 1
    let runtime = try FaultRuntime(configuration)
    let pages = 32
    let gate = Gate()
    let requests = Requests()
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: .onHandler) { request, page in
        requests.add(request)
        gate.wait()
        page.append(request.range.lazy.map { expectedByte($0) })
        return .filled
      }, byteCount: pages * pageBytes)
    let address = region.address

    // The first event certainly comes between the reading of a fault and its answer.
    let first = TestThread { #expect(read(address) == .byte(expectedByte(0))) }
    #expect(eventually { requests.all.count == 1 })
    let discard = unsafe cts_discard_on_thread(address + UInt(pageBytes), pageBytes)
    #expect(eventually { hasUnreadEvent(region.descriptorNumber) })
    gate.open()
    #expect(first.join())
    unsafe cts_join(discard)
    // The kernel has answered with EAGAIN.
    #expect(runtime.statistics.deferrals > 0)

    // After that, there are as many events as possible.
    let wrong = Atomic<Int>(0)
    let isDone = Atomic<Bool>(false)
    let progress = Atomic<Int>(0)
    let readers = (0..<3).map { index in
      TestThread {
        var step = 0
        while !isDone.load(ordering: .relaxed) {
          let offset = (step * 7 + index) % pages * pageBytes
          if read(address + UInt(offset)) != .byte(expectedByte(offset)) { wrong.wrappingAdd(1, ordering: .relaxed) }
          progress.wrappingAdd(1, ordering: .relaxed)
          step += 1
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
        // Between two events the kernel resolves nothing. A thread that only causes events would starve all other
        // threads, so this one lets them take a step in between.
        while progress.load(ordering: .relaxed) == before, !isDone.load(ordering: .relaxed) { sched_yield() }
      }
    }
    // There are more faults than pages, so some of them are for pages that were resident before.
    #expect(eventually { progress.load(ordering: .relaxed) > 1500 && runtime.statistics.faults > 4 * pages })
    isDone.store(true, ordering: .relaxed)
    for thread in readers + [discarder] { #expect(thread.join()) }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(region.failures.isEmpty)
  }
}

@Suite("Presence and absence that others cause", .timeLimit(.minutes(6)))
struct InterferenceTests {
  /// A runtime whose only handler is blocked in a provider until the gate opens, so that faults stay unread
  /// meanwhile.
  private struct Held {
    let runtime: FaultRuntime
    let gate = Gate()
    let holding: TestThread

    init(_ configuration: FaultRuntimeConfiguration = FaultRuntimeConfiguration()) throws {
      var configuration = configuration
      configuration.handlerThreads = 1
      runtime = try FaultRuntime(configuration)
      let entered = Requests()
      let region = try runtime.map(
        ClosureProvider(permissions: .onHandler) { [gate] request, page in
          entered.add(request)
          gate.wait()
          page.append(repeating: 1, count: request.byteCount)
          return .filled
        }, byteCount: pageBytes)
      holding = TestThread { #expect(region.access(0) == .byte(1)) }
      #expect(eventually { entered.all.count == 1 })
    }
  }

  @Test("A page that is there already wakes those who wait for it")
  func alreadyPresent() throws {
    let held = try Held()
    let region = try held.runtime.map(patternProvider(), byteCount: 2 * pageBytes)
    let victim = TestThread { #expect(region.access(pageBytes + 3) == .byte(0x33)) }
    #expect(eventually { waiters(on: region.descriptorNumber).unread == 1 })
    // The test fills the page through another way and wakes no thread.
    let other = Scratch(pages: 1)
    other.fill(0x33)
    try region.fillBehindItsBack(1, from: other)
    held.gate.open()
    #expect(victim.join())
    #expect(held.holding.join())
    #expect(held.runtime.statistics.pagesAlreadyPresent == 1)
    #expect(held.runtime.statistics.bytesFilled == pageBytes)
    #expect(region.failures.isEmpty)
  }

  @Test("A present page in the middle of a unit is stepped over, and keeps its bytes")
  func presentInTheMiddle() throws {
    let runtime = try FaultRuntime()
    let region = try runtime.map(
      patternProvider(requestSize: RequestSize(preferred: 8 * pageBytes, largest: 8 * pageBytes)),
      byteCount: 8 * pageBytes)
    let other = Scratch(pages: 1)
    other.fill(0x44)
    for index in [2, 3, 6] { try region.fillBehindItsBack(index, from: other) }
    #expect(region.access(0) == .byte(expectedByte(0)))
    for index in 0..<8 {
      let offset = index * pageBytes + 9
      #expect(region.access(offset) == .byte([2, 3, 6].contains(index) ? 0x44 : expectedByte(offset)))
    }
    #expect(runtime.statistics.faults == 1)
    #expect(runtime.statistics.pagesAlreadyPresent == 3)
    #expect(runtime.statistics.bytesFilled == 5 * pageBytes)
  }

  @Test("A unit across two mappings is resolved page by page", arguments: [1, 4])
  func splitMapping(preferred: Int) throws {
    let runtime = try FaultRuntime()
    let region = try runtime.map(
      patternProvider(requestSize: RequestSize(preferred: preferred * pageBytes, largest: 8 * pageBytes)),
      byteCount: 8 * pageBytes)
    // One page in the middle of a unit becomes a mapping of its own.
    let part = unsafe UnsafeMutableRawPointer(bitPattern: region.address + UInt(2 * pageBytes))
    #expect(unsafe mprotect(part, pageBytes, PROT_READ) == 0)
    #expect(mismatches(in: region) == [])
    #expect(region.failures.isEmpty)
  }

  @Test("A part that was unmapped behind the runtime's back is a signal, and the rest stays right")
  func unmappedPart() throws {
    let runtime = try FaultRuntime()
    let region = try runtime.map(
      patternProvider(requestSize: RequestSize(preferred: 4 * pageBytes, largest: 8 * pageBytes)),
      byteCount: 8 * pageBytes)
    // A guard mapping replaces the page at once. In a hole, the kernel could place memory of another thread, which
    // would then be unmapped with the region.
    let part = unsafe UnsafeMutableRawPointer(bitPattern: region.address + UInt(pageBytes))
    let flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS
    #expect(unsafe mmap(part, pageBytes, PROT_NONE, flags, -1, 0) == part)
    for index in 0..<8 where index != 1 {
      #expect(region.access(index * pageBytes) == .byte(expectedByte(index * pageBytes)))
    }
    #expect(region.access(pageBytes) == .signal(SIGSEGV))
  }

  @Test("When the kernel says EAGAIN beyond the timeout, the page fails, and is reported once")
  func deadline() throws {
    var configuration = FaultRuntimeConfiguration(resolveTimeout: .zero)
    configuration.additionalFeatures = .eventRemove
    configuration.immediateRetries = 0
    configuration.handlerThreads = 1
    let runtime = try FaultRuntime(configuration)
    let gate = Gate()
    let requests = Requests()
    let region = try runtime.map(
      ClosureProvider(permissions: .onHandler) { request, page in
        requests.add(request)
        if request.offset == 0 { gate.wait() }
        page.append(request.range.lazy.map { expectedByte($0) })
        return .filled
      }, byteCount: 4 * pageBytes)
    let victim = TestThread { #expect(region.access(0) == .signal(SIGBUS)) }
    #expect(eventually { requests.all.count == 1 })
    // While the provider works, an event arrives that no thread reads before the copy.
    let discard = unsafe cts_discard_on_thread(region.address + UInt(3 * pageBytes), pageBytes)
    #expect(eventually { hasUnreadEvent(region.descriptorNumber) })
    gate.open()
    #expect(victim.join())
    unsafe cts_join(discard)
    #expect(region.failures.map(\.offset) == [0])
    #expect(region.failures.first?.cause as? ResolutionError == .resolveTimedOut)
    #expect(runtime.statistics.pagesFailed == 1)
    #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
  }

  @Test("Closing one region is not held up by threads that keep faulting on another")
  func closeUnderLoad() throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(handlerThreads: 1, closeTimeout: .seconds(25)))
    let pages = 100_000
    let readerCount = 3
    let isDone = Atomic<Bool>(false)
    let next = Atomic<Int>(0)
    let descriptor = Atomic<CInt>(-1)
    let busy = try runtime.map(
      ClosureProvider(requestSize: .singlePage) { request, page in
        // Each fault is answered only when the other threads wait again.
        eventually {
          waiters(on: descriptor.load(ordering: .relaxed)).all == readerCount || isDone.load(ordering: .relaxed)
            || next.load(ordering: .relaxed) >= pages
        }
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: pages * pageBytes)
    descriptor.store(busy.descriptorNumber, ordering: .relaxed)
    let readers = (0..<readerCount).map { _ in
      TestThread {
        while !isDone.load(ordering: .relaxed) {
          let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
          if index >= pages { return }
          _ = busy.access(index * pageBytes)
        }
      }
    }
    #expect(eventually { next.load(ordering: .relaxed) > 10 })
    for _ in 0..<5 {
      let region = try runtime.map(patternProvider(), byteCount: pageBytes)
      let before = next.load(ordering: .relaxed)
      region.close()
      // The limit is a number of faults and not of seconds. A handful of them was queued before.
      #expect(next.load(ordering: .relaxed) - before < 1000)
    }
    isDone.store(true, ordering: .relaxed)
    for reader in readers { #expect(reader.join()) }
  }
}

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
  func forkedWhileRead() throws {
    let table = RegionTable<Region>()
    let staying = try core(3)
    table.insert(staying)
    let isDone = Atomic<Bool>(false)
    let readers = (0..<3).map { _ in
      TestThread {
        while !isDone.load(ordering: .relaxed) { _ = table.region(containing: staying.range.start + 5) }
      }
    }
    let added = try core(1)
    for _ in 0..<100 {
      let result = unsafe withUnsafePointer(to: (table, added)) { pointer in
        unsafe cts_forked(
          { context in
            alarm(20)
            let (table, added) = unsafe context.assumingMemoryBound(to: (RegionTable<Region>, Region).self).pointee
            table.insert(added)
            return 42
          }, UnsafeMutableRawPointer(mutating: UnsafeRawPointer(pointer)))
      }
      #expect(result == 42)
      // Each child that hangs takes as long as its alarm.
      if result != 42 { break }
    }
    isDone.store(true, ordering: .relaxed)
    for reader in readers { #expect(reader.join()) }
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
