import CTestSupport
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Where a region's memory is")
struct RegionPartsTests {
  private func range(_ start: UInt, _ end: UInt) -> AddressRange {
    AddressRange(start: start, byteCount: Int(end - start))
  }

  @Test("What is removed from the start, the end, the middle, around it, and beside it")
  func removal() {
    var parts = RegionParts(range(100, 200))
    parts.remove(range(50, 100))
    parts.remove(range(200, 300))
    #expect(parts.ranges == [range(100, 200)])
    parts.remove(range(90, 110))
    parts.remove(range(190, 250))
    parts.remove(range(140, 150))
    #expect(parts.ranges == [range(110, 140), range(150, 190)])
    parts.remove(range(0, 1000))
    #expect(parts.ranges == [])
  }

  @Test("What is moved, moved on, and unmapped there, is known where it was at first")
  func moves() {
    var parts = RegionParts(range(100, 200))
    parts.moveAway(from: range(120, 160), to: 1000)
    #expect(parts.ranges == [range(100, 120), range(160, 200), range(1000, 1040)])
    #expect(parts.origin(of: 1005) == 125)
    #expect(parts.origin(of: 1040) == nil)
    #expect(parts.origin(of: 105) == nil)
    parts.moveAway(from: range(1010, 1040), to: 2000)
    #expect(parts.origin(of: 2000) == 130)
    #expect(parts.origin(of: 1009) == 129)
    #expect(parts.origin(of: 1010) == nil)
    parts.remove(range(2005, 2010))
    #expect(parts.origin(of: 2004) == 134)
    #expect(parts.origin(of: 2005) == nil)
    #expect(parts.origin(of: 2010) == 140)
    #expect(parts.ranges.reduce(0) { $0 + $1.byteCount } == 95)
    #expect(
      [119, 125, 129, 130, 134, 135, 140, 160].map { parts.place(of: $0) } == [
        119, 1005, 1009, 2000, 2004, nil, 2010, 160,
      ])
    #expect([99, 200].map { parts.place(of: $0) } == [nil, nil])
    // Memory that was moved to the former place of other memory is not the memory that was there before.
    parts.remove(range(160, 200))
    parts.moveAway(from: range(100, 105), to: 160)
    #expect([100, 160].map { parts.place(of: $0) } == [160, nil])
    #expect(parts.firstLost(of: range(110, 170)) == 120)
    #expect(parts.firstLost(of: range(106, 110)) == nil)
    #expect(parts.firstLost(of: range(160, 162)) == 160)
    // The memory is moved back.
    parts.moveAway(from: range(160, 165), to: 100)
    #expect(parts.firstLost(of: range(100, 110)) == nil)
  }

  @Test("A mapping that stays behind, without its pages, still belongs to the region")
  func staysBehind() {
    var parts = RegionParts(range(100, 200))
    parts.move(from: range(120, 160), to: 1000)
    #expect(parts.ranges == [range(100, 200), range(1000, 1040)])
    #expect(parts.firstLost(of: range(100, 200)) == nil)
    #expect(parts.firstLost(of: range(1000, 1040)) == 1000)
    #expect(parts.origin(of: 1000) == 120)
    #expect(parts.origin(of: 120) == nil)
  }

  @Test("A move of more than the region has moves its memory only")
  func movedNeighbours() {
    var parts = RegionParts(range(100, 200))
    parts.moveAway(from: range(50, 120), to: 1000)
    #expect(parts.ranges == [range(120, 200), range(1050, 1070)])
    #expect(parts.origin(of: 1049) == nil)
    #expect(parts.origin(of: 1050) == 100)
    // The move covers two parts of the region, with memory in between that is not the region's.
    parts.moveAway(from: range(150, 1060), to: 3000)
    #expect(parts.ranges == [range(120, 150), range(1060, 1070), range(3000, 3050), range(3900, 3910)])
    #expect(parts.origin(of: 3049) == 199)
    #expect(parts.origin(of: 3900) == 100)
    #expect(parts.origin(of: 3050) == nil)
  }

  @Test("A move that begins in front of a region is reported with the address where the region's part went")
  func reportedNeighbours() throws {
    let table = RegionTable<Region>()
    let userfaultfd = try SharedUserfaultfd(Userfaultfd.open(DescriptorKind.allCases, wanting: []))
    let region = try Region(testing: ZeroProvider(), byteCount: 4 * pageBytes, userfaultfd: userfaultfd)
    table.insert(region)
    let target = Scratch(pages: 8)
    let log = Log<RegionEvent>()
    let events = EventReporter(table: table, userfaultfd: userfaultfd, onEvent: { log.add($0) })
    // The kernel merges neighbouring mappings, so the memory in front may be another region's.
    events.handle(
      .remap(
        from: region.range.start - UInt(3 * pageBytes), to: target.range.start, byteCount: UInt64(5 * pageBytes)))
    let part = target.range.start + UInt(3 * pageBytes)
    #expect(log.all == [.moved(region: region.name, range: 0..<(2 * pageBytes), to: part)])
    #expect(events.moved(to: part)?.region === region)
    #expect(events.moved(to: part)?.offset == 0)
    #expect(events.moved(to: part - 1) == nil)
    // Nothing was moved, so that the region has to find its memory where it was.
    region.memory.parts.withLock { $0 = RegionParts(region.range) }
  }

  /// Two neighbouring regions of different descriptors, which one table has. The memory is not registered.
  private struct Neighbours {
    let table = RegionTable<Region>()
    let regions: [Region]

    init() throws {
      let descriptors = try (0..<2).map { _ in
        SharedUserfaultfd(try Userfaultfd.open(DescriptorKind.allCases, wanting: []))
      }
      let regions = try descriptors.map {
        try Region(testing: ZeroProvider(), byteCount: 4 * pageBytes, userfaultfd: $0)
      }
      self.regions = regions.sorted { $0.range.start < $1.range.start }
      for region in regions { table.insert(region) }
    }

    func reporter(_ index: Int, _ log: Log<RegionEvent>) -> EventReporter {
      EventReporter(
        table: table, userfaultfd: AnonymousMemory.of(regions[index]).userfaultfd, onEvent: { log.add($0) })
    }

    /// Undoes what the events claimed, because none of it happened.
    func restore() {
      for region in regions {
        region.memory.parts.withLock { $0 = RegionParts(region.range) }
        table.remove(region)
      }
    }
  }

  @Test("Each handler follows and reports what happens to its own regions, and no other's", arguments: [0, 1])
  func ownRegions(index: Int) throws {
    let neighbours = try Neighbours()
    defer { neighbours.restore() }
    let log = Log<RegionEvent>()
    let (own, other) = (neighbours.regions[index], neighbours.regions[1 - index])
    let (start, end) = (neighbours.regions[0].range.start, neighbours.regions[1].range.end)
    neighbours.reporter(index, log).handle(.unmap(start: start, end: end))
    #expect(log.all == [.unmapped(region: own.name, range: 0..<(4 * pageBytes))])
    #expect(own.memory.parts.withLock { $0.ranges } == [])
    #expect(other.memory.parts.withLock { $0.ranges } == [other.range])
  }

  @Test("Memory that was moved into a hole of another handler's region is followed there", arguments: [0, 1])
  func movedIntoHole(index: Int) throws {
    let neighbours = try Neighbours()
    defer { neighbours.restore() }
    let log = Log<RegionEvent>()
    let (own, other) = (neighbours.regions[index], neighbours.regions[1 - index])
    let events = neighbours.reporter(index, log)
    let hole = AddressRange(start: other.range.start + UInt(pageBytes), byteCount: 2 * pageBytes)
    events.handle(.remap(from: own.range.start, to: hole.start, byteCount: UInt64(hole.byteCount)))
    events.handle(.unmap(start: own.range.start, end: own.range.start + UInt(hole.byteCount)))
    let rest = own.range.dropping(hole.byteCount)
    #expect(own.memory.parts.withLock { $0.ranges } == [rest, hole])
    events.handle(.unmap(start: hole.start, end: hole.start + UInt(pageBytes)))
    #expect(own.memory.parts.withLock { $0.ranges } == [rest, hole.dropping(pageBytes)])
    events.handle(.unmap(start: hole.start, end: hole.end))
    #expect(own.memory.parts.withLock { $0.ranges } == [rest])
    #expect(events.moved(to: hole.start) == nil)
    #expect(other.memory.parts.withLock { $0.ranges } == [other.range])
  }

  @Test("Events that make no sense concern no region")
  func nonsense() throws {
    let events = EventReporter(
      table: RegionTable<Region>(),
      userfaultfd: try SharedUserfaultfd(Userfaultfd.open(DescriptorKind.allCases, wanting: [])),
      onEvent: { event in Issue.record("\(event)") })
    for (start, end) in [(UInt(8), UInt(8)), (9, 8), (0, .max), (.max, 0)] {
      events.handle(.remove(start: start, end: end))
      events.handle(.unmap(start: start, end: end))
      events.handle(.remap(from: start, to: end, byteCount: .max))
      events.handle(.remap(from: end, to: .max - 8, byteCount: 16))
    }
  }
}

@Suite("What the program does to regions behind the runtime's back", .timeLimit(.minutes(6)))
struct EventTests {
  private let events = Log<RegionEvent>()

  private func region(_ requests: Requests = Requests(), mayBlock: Bool = false) throws -> LazyRegion {
    var configuration = FaultRuntimeConfiguration(delivery: .eventLoop)
    configuration.onEvent = { [events] in events.add($0) }
    let runtime = try FaultRuntime(configuration)
    return try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: mayBlock ? .standard : .onHandler) { request, page in
        requests.add(request)
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 8 * pageBytes, options: RegionOptions(name: "mine"))
  }

  private func pages(_ pages: Range<Int>) -> Range<Int> {
    (pages.lowerBound * pageBytes)..<(pages.upperBound * pageBytes)
  }

  /// Maps memory of the program over a part of the region, and returns its address.
  private func take(_ pages: Range<Int>, of region: LazyRegion) -> UInt {
    let start = unsafe UnsafeMutableRawPointer(bitPattern: region.address + UInt(pages.lowerBound * pageBytes))
    let flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS
    let taken = unsafe mmap(start, pages.count * pageBytes, PROT_READ | PROT_WRITE, flags, -1, 0)
    return UInt(bitPattern: taken)
  }

  @Test("A part that was unmapped is told of; what lies there then is left alone, also by closing")
  func unmapped() throws {
    let region = try region()
    #expect(region.access(3 * pageBytes) == .byte(expectedByte(3 * pageBytes)))
    let taken = take(2..<5, of: region)
    #expect(eventually { events.all == [.unmapped(region: "mine", range: pages(2..<5))] })
    #expect(write(77, to: taken + 5) == .byte(77))
    #expect(read(taken + UInt(pageBytes)) == .byte(0))
    for page in [0, 1, 5, 6, 7] {
      #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes)))
    }
    let start = region.address
    region.close()
    #expect(read(start) == .signal(SIGSEGV))
    #expect(read(start + UInt(7 * pageBytes)) == .signal(SIGSEGV))
    #expect(read(taken + 5) == .byte(77))
    #expect(unsafe munmap(UnsafeMutableRawPointer(bitPattern: taken), 3 * pageBytes) == 0)
  }

  @Test("No runtime maps a region where the program has unmapped a part of an open one")
  func hole() async {
    // The process is a new one, so that no other test takes the hole.
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop))
      func anywhere() -> UInt {
        UInt(bitPattern: unsafe mmap(nil, 4 * pageBytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
      }
      /// Fills the places that the kernel prefers to the hole. Returns false if the kernel has placed other memory of
      /// the process in the hole.
      func isNextPlace(_ hole: UInt) -> Bool {
        (0..<1_000).contains { _ in anywhere() == hole }
      }
      var regions: [LazyRegion] = []
      var hole: UInt
      repeat {
        try #require(regions.count < 20)
        regions.append(try runtime.map(patternProvider(), byteCount: 8 * pageBytes))
        hole = regions.last!.address + UInt(2 * pageBytes)
        #expect(unsafe munmap(UnsafeMutableRawPointer(bitPattern: hole), 4 * pageBytes) == 0)
      } while !isNextPlace(hole)
      let region = regions.last!
      let end = region.address + UInt(8 * pageBytes)
      #expect(unsafe munmap(UnsafeMutableRawPointer(bitPattern: hole), 4 * pageBytes) == 0)
      for delivery in Delivery.ofRegions {
        let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
        let other = try runtime.map(
          patternProvider(seed: 1, inFaultingThread: true), byteCount: 4 * pageBytes)
        #expect(other.address + UInt(4 * pageBytes) <= region.address || other.address >= end)
        #expect(other.access(0) == .byte(expectedByte(0, seed: 1)))
      }
      // The regions give the hole back, at the latest when all of their memory is gone.
      #expect(eventually { anywhere() == hole })
      #expect(region.access(7 * pageBytes) == .byte(expectedByte(7 * pageBytes)))
    }
  }

  @Test("A prefetch on the handler's thread goes on when an event comes that this thread has to read first")
  func eventDuringPrefetch() throws {
    let held = Monitor<LazyRegion?>(nil)
    let discarding = Monitor<TestThread?>(nil)
    var configuration = FaultRuntimeConfiguration(delivery: .eventLoop, handlerThreads: 1)
    configuration.onEvent = { [events] in events.add($0) }
    let region = try FaultRuntime(configuration).map(
      ClosureProvider(requestSize: .singlePage, permissions: .onHandler) { request, page in
        if request.offset == 4 * pageBytes, let region = held.withLock({ $0 }) {
          held.withLock { $0 = nil }
          let start = region.address
          let thread = TestThread { unsafe cts_join(cts_discard_on_thread(start, pageBytes)) }
          discarding.withLock { $0 = thread }
          eventually { hasUnreadEvent(region.descriptorNumber) }
        }
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 8 * pageBytes, options: RegionOptions(name: "mine"))
    held.withLock { $0 = region }
    try region.populate()
    #expect(try #require(discarding.withLock { $0 }).join())
    // The program continues as soon as the event is read, and the event is reported after that.
    #expect(eventually { events.all == [.discarded(region: "mine", range: pages(0..<1))] })
    #expect(mismatches(in: region) == [])
  }

  @Test("When the region's object goes, memory in the place of a part of it stays")
  func unmappedAndGone() throws {
    var region: LazyRegion? = try region()
    let taken = take(1..<2, of: region!)
    #expect(write(55, to: taken) == .byte(55))
    region = nil
    #expect(read(taken) == .byte(55))
    #expect(unsafe munmap(UnsafeMutableRawPointer(bitPattern: taken), pageBytes) == 0)
  }

  @Test(
    "Memory that was moved keeps what it has, and what it has not fails there: it never reads as zero",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison),
    arguments: [false, true])
  func moved(mayBlock: Bool) throws {
    let region = try region(mayBlock: mayBlock)
    #expect(region.access(2 * pageBytes) == .byte(expectedByte(2 * pageBytes)))
    // The target is memory that no other code takes.
    let target = Scratch(pages: 3)
    let start = unsafe UnsafeMutableRawPointer(bitPattern: region.address + UInt(2 * pageBytes))
    let moved = target.range.start
    #expect(cts_move_mapping(UInt(bitPattern: start), 3 * pageBytes, moved) == 0)
    #expect(eventually { events.all.contains(.moved(region: "mine", range: pages(2..<5), to: moved)) })
    #expect(read(moved + 9) == .byte(expectedByte(2 * pageBytes + 9)))
    #expect(read(moved + UInt(pageBytes)) == .signal(SIGBUS))
    #expect(region.failures.map(\.offset) == [3 * pageBytes])
    #expect(region.failures.first?.cause as? ResolutionError == .memoryMoved)
    // The place is occupied now, by this mapping or by another one.
    let hole = unsafe mmap(
      start, 3 * pageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE,
      -1, 0)
    defer { if unsafe hole == start { _ = unsafe munmap(hole, 3 * pageBytes) } }
    #expect(region.failure(at: 3 * pageBytes)?.cause as? ResolutionError == .memoryMoved)
    #expect(region.access(6 * pageBytes) == .byte(expectedByte(6 * pageBytes)))
    // The moved memory still belongs to the region, so a thread does not read zeros there after the end either.
    region.close()
    #expect(read(moved + UInt(2 * pageBytes)) == .signal(SIGSEGV))
  }

  // A sanitizer maps memory for threads of the runtime, maybe in the place that is free while the memory is away, and
  // the move back would replace it.
  @Test(
    "Memory that was moved away and back is served again", .enabled(if: !Host.isSanitized, SkipReason.sanitizer),
    arguments: [false, true])
  func movedHome(mayBlock: Bool) async {
    // The process is a new one, so that no other test takes the place while the memory is away.
    await #expect(processExitsWith: .success) { [mayBlock = mayBlock as Bool] in
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop))
      let region = try runtime.map(
        patternProvider(requestSize: .singlePage, mayBlock: mayBlock), byteCount: 8 * pageBytes)
      let start = region.address + UInt(2 * pageBytes)
      let length = 3 * pageBytes
      let place = unsafe mmap(nil, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
      let away = UInt(bitPattern: place)
      #expect(cts_move_mapping(start, length, away) == 0 && cts_move_mapping(away, length, start) == 0)
      for page in 0..<8 { #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
    }
  }

  @Test(
    "Memory that was moved inside of its region is not what the provider says about its new address",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison), arguments: [false, true])
  func movedInside(mayBlock: Bool) throws {
    let region = try region(mayBlock: mayBlock)
    #expect(region.access(0) == .byte(expectedByte(0)))
    let target = region.address + UInt(3 * pageBytes)
    #expect(cts_move_mapping(region.address, 2 * pageBytes, target) == 0)
    #expect(eventually { events.all.contains(.moved(region: "mine", range: pages(0..<2), to: target)) })
    #expect(read(target) == .byte(expectedByte(0)))
    #expect(read(target + UInt(pageBytes)) == .signal(SIGBUS))
    #expect(region.failures.map(\.offset) == [pageBytes])
    #expect(region.failures.first?.cause as? ResolutionError == .memoryMoved)
    // A request for the page before does not reach into the moved memory.
    #expect(region.access(2 * pageBytes) == .byte(expectedByte(2 * pageBytes)))
    #expect(region.access(6 * pageBytes) == .byte(expectedByte(6 * pageBytes)))
    #expect(read(target + UInt(pageBytes)) == .signal(SIGBUS))
  }

  @Test("Discarded pages are told of, and asked for again")
  func discarded() throws {
    let requests = Requests()
    let region = try region(requests)
    #expect(mismatches(in: region) == [])
    #expect(write(1, to: region.address + UInt(4 * pageBytes)) == .byte(1))
    let start = unsafe UnsafeMutableRawPointer(bitPattern: region.address + UInt(4 * pageBytes))
    #expect(unsafe madvise(start, 2 * pageBytes, MADV_DONTNEED) == 0)
    #expect(eventually { events.all == [.discarded(region: "mine", range: pages(4..<6))] })
    #expect(mismatches(in: region) == [])
    #expect(requests.all.map(\.offset) == ((0..<8) + [4, 5]).map { $0 * pageBytes })
  }

  @Test("Where nobody wants to know, whoever discards does not wait for the handler")
  func discardedUnnoticed() throws {
    let gate = Gate()
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop, handlerThreads: 1))
    let region = try runtime.map(patternProvider(), byteCount: 2 * pageBytes)
    let held = try runtime.map(
      ClosureProvider(permissions: .onHandler) { request, page in
        gate.wait()
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: pageBytes)
    #expect(region.access(0) == .byte(expectedByte(0)))
    let address = held.address
    let holder = TestThread { _ = read(address) }
    #expect(eventually { waiters(on: held.descriptorNumber).all == 1 })
    let start = unsafe UnsafeMutableRawPointer(bitPattern: region.address)
    #expect(unsafe madvise(start, pageBytes, MADV_DONTNEED) == 0)
    gate.open()
    #expect(holder.join())
    #expect(region.access(0) == .byte(expectedByte(0)))
  }

  @Test(
    "What is unmapped while a handler waits for itself is followed all the same",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison))
  func unmappedInDeadlock() throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop, handlerThreads: 1))
    let region = try runtime.map(patternProvider(), byteCount: 8 * pageBytes)
    let descriptor = region.descriptorNumber
    let place = Monitor<UInt>(0)
    let taken = Monitor<UInt>(0)
    let unmapper = Monitor<TestThread?>(nil)
    let selfish = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: .onHandler) { _, _ in
        let thread = TestThread { [self] in
          let address = take(2..<5, of: region)
          taken.withLock { $0 = address }
        }
        unmapper.withLock { $0 = thread }
        #expect(eventually { hasUnreadEvent(descriptor) })
        _ = read(place.withLock { $0 })
        return .zero
      }, byteCount: 2 * pageBytes)
    place.withLock { $0 = selfish.address }
    #expect(selfish.access(pageBytes) == .byte(0))
    #expect(unmapper.withLock { $0 }?.join() == true)
    let address = taken.withLock { $0 }
    #expect(write(77, to: address) == .byte(77))
    region.close()
    #expect(read(address) == .byte(77))
    #expect(unsafe munmap(UnsafeMutableRawPointer(bitPattern: address), 3 * pageBytes) == 0)
  }

  @Test(
    "A page that fails while the handler has an event to read fails when it has read it, and ends nothing",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison))
  func eventWhileFailing() async {
    await #expect(processExitsWith: .success) {
      let onFailure = Monitor<(@Sendable () -> Void)?>(nil)
      var configuration = FaultRuntimeConfiguration(delivery: .eventLoop, handlerThreads: 1)
      configuration.resolveTimeout = .milliseconds(300)
      configuration.onFailure = { _ in onFailure.withLock { $0 }?() }
      let runtime = try FaultRuntime(configuration)
      let moving = try runtime.map(patternProvider(), byteCount: 4 * pageBytes)
      let other = try runtime.map(patternProvider(), byteCount: 2 * pageBytes)
      let target = Scratch(pages: 4)
      let moved = target.range.start
      #expect(cts_move_mapping(moving.address, 4 * pageBytes, moved) == 0)
      let address = other.address
      let descriptor = other.descriptorNumber
      let unmapper = Monitor<TestThread?>(nil)
      onFailure.withLock {
        $0 = {
          let thread = TestThread {
            _ = unsafe munmap(UnsafeMutableRawPointer(bitPattern: address), pageBytes)
          }
          unmapper.withLock { $0 = thread }
          #expect(eventually { hasUnreadEvent(descriptor) })
        }
      }
      #expect(read(moved) == .signal(SIGBUS))
      #expect(unmapper.withLock { $0 }?.join() == true)
    }
  }

  @Test("Checked access refuses what is not the region's memory any more")
  func checkedAccess() throws {
    let region = try region()
    let taken = take(2..<3, of: region)
    #expect(eventually { events.all.count == 1 })
    #expect(region.access(0) == .byte(expectedByte(0)))
    #expect(write(77, to: taken) == .byte(77))
    #expect(throws: FaultRuntimeError.self) { try region.read(pages(2..<3)) }
    #expect(throws: FaultRuntimeError.self) { try region.read(pages(0..<8)) }
    #expect(throws: FaultRuntimeError.self) { try region.write([1, 2, 3], at: 2 * pageBytes) }
    #expect(throws: FaultRuntimeError.self) {
      unsafe try region.forEachUnsafePiece(of: pages(1..<4)) { _, _ in }
    }
    #expect(read(taken) == .byte(77))
    #expect(try region.read(pages(3..<8)) == expectedBytes(pages(3..<8)))
    region.close()
    #expect(unsafe munmap(UnsafeMutableRawPointer(bitPattern: taken), pageBytes) == 0)
  }
}

extension RegionParts {
  /// What the kernel reports of a move: first the move, and then that the old place was unmapped.
  fileprivate mutating func moveAway(from: AddressRange, to: UInt) {
    move(from: from, to: to)
    remove(from)
  }
}
