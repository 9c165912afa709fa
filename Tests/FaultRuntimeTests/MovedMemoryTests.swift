import CTestSupport
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// Memory that the program moves (`mremap(2)`), where faulting threads serve themselves. Every test is a process of its
/// own, so that no other test takes the places that are free while memory is away.
@Suite("Moved memory and SIGBUS", .timeLimit(.minutes(6)))
struct MovedMemoryTests {
  private static func place(_ pages: Int) -> UInt {
    UInt(bitPattern: unsafe mmap(nil, pages * pageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
  }

  private static func move(_ pages: Range<Int>, of region: LazyRegion, to target: UInt) {
    let start = region.address + UInt(pages.lowerBound * pageBytes)
    #expect(cts_move_mapping(start, pages.count * pageBytes, target) == 0)
  }

  @Test(
    "Missing pages fail at the new address, and the others keep their bytes, until the region is closed",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison))
  func movedAway() async {
    await #expect(processExitsWith: .success) {
      let events = Log<RegionEvent>()
      let target = Self.place(4)
      do {
        var configuration = FaultRuntimeConfiguration(delivery: .sigbus)
        configuration.onEvent = { events.add($0) }
        let region = try FaultRuntime(configuration).map(
          patternProvider(inFaultingThread: true), byteCount: 8 * pageBytes, options: RegionOptions(name: "mine"))
        #expect(region.access(2 * pageBytes) == .byte(expectedByte(2 * pageBytes)))
        Self.move(2..<6, of: region, to: target)
        let range = (2 * pageBytes)..<(6 * pageBytes)
        #expect(eventually { events.all.contains(.moved(region: "mine", range: range, to: target)) })
        #expect(read(target + 9) == .byte(expectedByte(2 * pageBytes + 9)))
        #expect(read(target + UInt(pageBytes)) == .signal(SIGBUS))
        #expect(region.access(7 * pageBytes) == .byte(expectedByte(7 * pageBytes)))
        #expect(throws: FaultRuntimeError.self) { try region.populate() }
        // The moved memory still belongs to the region.
        region.close()
        for page in 0..<4 { #expect(read(target + UInt(page * pageBytes)) == .signal(SIGSEGV)) }
      }
      #expect(eventually { runtimeThreads(named: "fault-events").isEmpty })
    }
  }

  @Test(
    "Inside of its region, memory is not what the provider says about its new address",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison))
  func movedInside() async {
    await #expect(processExitsWith: .success) {
      let region = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigbus)).map(
        patternProvider(
          requestSize: RequestSize(preferred: 4 * pageBytes, largest: 8 * pageBytes), inFaultingThread: true),
        byteCount: 16 * pageBytes, options: RegionOptions(advice: .random))
      #expect(region.access(0) == .byte(expectedByte(0)))
      let target = region.address + UInt(9 * pageBytes)
      // The first four pages have come together.
      Self.move(3..<5, of: region, to: target)
      #expect(read(target) == .byte(expectedByte(3 * pageBytes)))
      #expect(read(target + UInt(pageBytes)) == .signal(SIGBUS))
      #expect(region.failures.first?.offset == 4 * pageBytes)
      #expect(region.failures.first?.cause as? ResolutionError == .memoryMoved)
      // A request for the page in front, or behind, does not reach into the moved memory.
      for page in [8, 11, 15] { #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
      #expect(read(target + UInt(pageBytes)) == .signal(SIGBUS))
      // Some kernels do not tell a page that failed from a missing one, and it fails again.
      #expect(Set(region.failures.map(\.offset)) == [4 * pageBytes])
    }
  }

  // A sanitizer maps memory for threads of the runtime, maybe in the place that is free while the memory is away, and
  // the move back would replace it.
  @Test(
    "Memory that was moved away and back is served again", .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func movedHome() async {
    await #expect(processExitsWith: .success) {
      let region = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigbus)).map(
        patternProvider(inFaultingThread: true), byteCount: 8 * pageBytes)
      let away = Self.place(3)
      Self.move(2..<5, of: region, to: away)
      #expect(cts_move_mapping(away, 3 * pageBytes, region.address + UInt(2 * pageBytes)) == 0)
      #expect(mismatches(in: region) == [])
      let start = unsafe UnsafeMutableRawPointer(bitPattern: region.address)
      #expect(unsafe madvise(start, region.byteCount, MADV_DONTNEED) == 0)
      #expect(mismatches(in: region) == [])
      region.close()
      #expect(read(region.core.range.start + UInt(2 * pageBytes)) == .signal(SIGSEGV))
    }
  }

  @Test(
    "In the place of another region's memory it fails as well, and does not go with that region",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison))
  func movedIntoAnother() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigbus))
      let first = try runtime.map(patternProvider(seed: 1, inFaultingThread: true), byteCount: 8 * pageBytes)
      let second = try runtime.map(patternProvider(seed: 2, inFaultingThread: true), byteCount: 8 * pageBytes)
      #expect(first.access(0) == .byte(expectedByte(0, seed: 1)))
      let target = second.address + UInt(2 * pageBytes)
      Self.move(0..<3, of: first, to: target)
      #expect(read(target + UInt(pageBytes)) == .signal(SIGBUS))
      #expect(first.failures.map(\.offset) == [pageBytes])
      #expect(second.failures.isEmpty)
      for page in [0, 1, 5, 7] {
        #expect(second.access(page * pageBytes) == .byte(expectedByte(page * pageBytes, seed: 2)))
      }
      second.close()
      #expect(read(target) == .byte(expectedByte(0, seed: 1)))
      #expect(read(target + UInt(2 * pageBytes)) == .signal(SIGBUS))
      #expect(read(target - UInt(pageBytes)) == .signal(SIGSEGV))
      first.close()
      #expect(read(target) == .signal(SIGSEGV))
    }
  }

  @Test(
    "Memory of the program in the place of what it has unmapped stays its own, and the events say what was unmapped")
  func unmapped() async {
    await #expect(processExitsWith: .success) {
      let events = Log<RegionEvent>()
      var configuration = FaultRuntimeConfiguration(delivery: .sigbus)
      configuration.onEvent = { events.add($0) }
      let place: UInt
      do {
        let region = try FaultRuntime(configuration).map(
          patternProvider(inFaultingThread: true), byteCount: 8 * pageBytes, options: RegionOptions(name: "mine"))
        place = region.address + UInt(3 * pageBytes)
        let mapped = unsafe mmap(
          UnsafeMutableRawPointer(bitPattern: place), pageBytes, PROT_READ | PROT_WRITE,
          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
        #expect(UInt(bitPattern: mapped) == place)
        #expect(read(place) == .byte(0))
        #expect(write(55, to: place) == .byte(55))
        #expect(eventually { events.all == [.unmapped(region: "mine", range: (3 * pageBytes)..<(4 * pageBytes))] })
        for page in [0, 2, 4, 7] { #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
        region.close()
      }
      #expect(read(place) == .byte(55))
    }
  }

  @Test(
    "In the place of memory of another runtime it does not get the bytes of that place",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison))
  func movedIntoAnotherRuntime() async {
    await #expect(processExitsWith: .success) {
      let configuration = FaultRuntimeConfiguration(delivery: .sigbus)
      let first = try FaultRuntime(configuration).map(
        patternProvider(seed: 1, inFaultingThread: true), byteCount: 8 * pageBytes)
      let second = try FaultRuntime(configuration).map(
        patternProvider(
          seed: 2, requestSize: RequestSize(preferred: 4 * pageBytes, largest: 8 * pageBytes), inFaultingThread: true),
        byteCount: 8 * pageBytes)
      let target = second.address + UInt(2 * pageBytes)
      Self.move(0..<3, of: first, to: target)
      #expect(second.access(0) == .byte(expectedByte(0, seed: 2)))
      #expect(second.access(5 * pageBytes) == .byte(expectedByte(5 * pageBytes, seed: 2)))
      for page in 0..<3 { #expect(read(target + UInt(page * pageBytes)) == .signal(SIGBUS)) }
      second.close()
      first.close()
      #expect(read(target) == .signal(SIGSEGV))
    }
  }

  // The mapping stays at its old place, so that no second event follows, and the call returns when the first is read.
  @Test(
    "A touch right after the move never meets the bytes of the new address, nor zeros",
    // Without poison the event loop ends the process at a page that fails.
    arguments: Host.features.contains(.poison) ? [Delivery.eventLoop, .sigbus] : [.sigbus])
  func atOnce(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!))
      for round in 0..<200 {
        let region = try runtime.map(patternProvider(seed: round, inFaultingThread: true), byteCount: 8 * pageBytes)
        #expect(region.access(0) == .byte(expectedByte(0, seed: round)))
        let target = region.address + UInt(4 * pageBytes)
        #expect(cts_move_pages(region.address, 2 * pageBytes, target) == 0)
        #expect(read(target + UInt(pageBytes)) == .signal(SIGBUS))
        #expect(read(target) == .byte(expectedByte(0, seed: round)))
        for page in [0, 1, 7] {
          #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes, seed: round)))
        }
        let place = region.address
        region.close()
        for page in [0, 1, 4, 5] { #expect(read(place + UInt(page * pageBytes)) == .signal(SIGSEGV)) }
      }
    }
  }

  @Test("A region that is closed right after a part of it was replaced leaves that part alone")
  func closedAtOnce() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigbus))
      for round in 0..<200 {
        let region = try runtime.map(patternProvider(inFaultingThread: true), byteCount: 4 * pageBytes)
        let place = region.address + UInt(pageBytes)
        if round % 2 == 0 {
          #expect(unsafe munmap(UnsafeMutableRawPointer(bitPattern: place), pageBytes) == 0)
          region.close()
        } else {
          let mapped = unsafe mmap(
            UnsafeMutableRawPointer(bitPattern: place), pageBytes, PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1, 0)
          #expect(UInt(bitPattern: mapped) == place)
          region.close()
          #expect(write(5, to: place) == .byte(5))
          #expect(unsafe munmap(mapped, pageBytes) == 0)
        }
        #expect(!region.core.isLeftBehind)
      }
    }
  }

  @Test("The thread that reads events runs from the first region on, and ends with the runtime")
  func ends() async {
    await #expect(processExitsWith: .success) {
      do {
        let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigbus))
        #expect(runtimeThreads(named: "fault-events").isEmpty)
        let region = try runtime.map(patternProvider(inFaultingThread: true), byteCount: pageBytes)
        #expect(runtimeThreads(named: "fault-events").count == 1)
        #expect(mismatches(in: region) == [])
      }
      #expect(eventually { runtimeThreads(named: "fault-events").isEmpty })
    }
  }
}
