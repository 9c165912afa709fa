import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("The mappings of memory that is guarded by its protection", .timeLimit(.minutes(6)))
struct SigsegvMappingsTests {
  /// Makes a runtime that may have `mappings` mappings. Guard markers need none, so there are no markers.
  private func runtime(mappings: Int, onNotice: (@Sendable (String) -> Void)? = nil) throws -> FaultRuntime {
    var configuration = FaultRuntimeConfiguration(delivery: .sigsegv, onNotice: onNotice)
    configuration.mappingLimit = mappings
    configuration.guardsPages = false
    return try FaultRuntime(configuration)
  }

  /// Returns how many mappings the kernel has within the region.
  private func mappings(_ region: LazyRegion) -> Int {
    let range = region.core.range
    return mappingStarts().count { range.contains($0) }
  }

  @Test("A closed region gives its pages back, and its mappings")
  func givenBack() throws {
    let runtime = try runtime(mappings: 20)
    for _ in 0..<10 {
      let region = try runtime.map(patternProvider(inFaultingThread: true), byteCount: 64 * pageBytes)
      for page in stride(from: 0, to: 16, by: 2) { #expect(region.access(page * pageBytes).isByte) }
      // The touches stay below the limit, so no other page was filled.
      #expect(!region.isResident(3 * pageBytes))
      region.close()
      #expect(mappings(region) == 1)
    }
  }

  @Test("Scattered touches near the limit fill up to their neighbours, say so once, and read the right bytes")
  func scattered() throws {
    let notes = Log<String>()
    let runtime = try runtime(mappings: 43, onNotice: { notes.add($0) })
    let pages = 4096
    let region = try runtime.map(
      patternProvider(requestSize: .singlePage, inFaultingThread: true), byteCount: pages * pageBytes)
    // 1531 and the number of pages have no common divisor, so each page is touched once and far from the one before.
    for step in 0..<200 {
      let offset = step * 1531 % pages * pageBytes + 3
      #expect(region.access(offset) == .byte(expectedByte(offset)))
    }
    #expect(mappings(region) <= 41)
    #expect(notes.all.count == 1)
    #expect(notes.all.first?.contains("vm.max_map_count") == true)
    #expect(mismatches(in: region) == [])
    #expect(mappings(region) <= 2)
    #expect(region.failures.isEmpty)
  }

  @Test("A neighbour that cannot be filled fails nobody but those who touch it")
  func badNeighbour() throws {
    let runtime = try runtime(mappings: 5, onNotice: { _ in })
    let region = try runtime.map(Self.failing(at: [4]), byteCount: 64 * pageBytes)
    #expect(region.access(0) == .byte(expectedByte(0)))
    #expect(region.access(8 * pageBytes) == .byte(expectedByte(8 * pageBytes)))
    #expect(region.failures.isEmpty)
    #expect(region.isResident(3 * pageBytes))
    #expect(!region.isResident(4 * pageBytes))
    #expect(region.access(4 * pageBytes) == .signal(SIGSEGV))
  }

  @Test(
    "Where the kernel has no mapping left, faults go on beside what is there",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func usedUp() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime(.byProtection)
      let region = try runtime.map(
        patternProvider(requestSize: .singlePage, inFaultingThread: true), byteCount: 256 * pageBytes)
      #expect(region.access(100 * pageBytes) == .byte(expectedByte(100 * pageBytes)))
      _ = cts_use_up_mappings()
      var right = 0
      for page in [200, 10, 103, 255, 0] where region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))
      {
        right += 1
      }
      // Nothing after this point may make a mapping, so the process exits at once.
      _exit(right == 5 ? 0 : 1)
    }
  }

  @Test("Where the pages on one side cannot be had, those on the other are filled")
  func otherSide() throws {
    let runtime = try runtime(mappings: 7, onNotice: { _ in })
    let region = try runtime.map(Self.failing(at: [90]), byteCount: 256 * pageBytes)
    for page in [80, 130, 100] {
      #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes)))
    }
    #expect(region.isResident(89 * pageBytes))
    #expect(!region.isResident(91 * pageBytes))
    #expect((100...130).allSatisfy { region.isResident($0 * pageBytes) })
    // The mappings are the two runs, and the inaccessible memory before, between and after them.
    #expect(mappings(region) == 5)
  }

  /// Makes a provider with one page for each request that throws an error for the given pages.
  private static func failing(at pages: Set<Int>) -> ClosureProvider {
    ClosureProvider(requestSize: .singlePage, permissions: .inSignalHandler) { request, page in
      if pages.contains(request.offset / pageBytes) { throw Refused() }
      page.append(expectedBytes(request.range))
      return .filled
    }
  }

  @Test(
    "Where other code has used up the mappings, a region's first page is served, and one among pages that fail",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func reserve() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime(.byProtection)
      let untouched = try runtime.map(Self.failing(at: []), byteCount: 256 * pageBytes)
      let enclosed = try runtime.map(Self.failing(at: [90, 110]), byteCount: 256 * pageBytes)
      for page in [50, 150] { #expect(enclosed.access(page * pageBytes).isByte) }
      _ = cts_use_up_mappings()
      func isRight(_ region: LazyRegion, _ page: Int) -> Bool {
        region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))
      }
      guard isRight(untouched, 100) else { _exit(1) }
      // This uses up the mappings that the first page left over of the reserve.
      _ = cts_use_up_mappings()
      guard isRight(untouched, 200), isRight(untouched, 0) else { _exit(2) }
      guard isRight(enclosed, 100) else { _exit(3) }
      _ = cts_use_up_mappings()
      guard isRight(enclosed, 30), isRight(enclosed, 160), isRight(enclosed, 101) else { _exit(4) }
      _exit(0)
    }
  }

  @Test("A reserve gives up two mappings at a time, as often as it can, and takes them back")
  func reserveCount() throws {
    let reserve = try #require(MappingReserve(pageSize: PageSize.ofHost()))
    /// Returns how many boundaries between mappings lie inside the reserve. Its ends are not counted, because they
    /// may be merged with neighbouring mappings.
    func boundaries() -> Int {
      mappingStarts().count { $0 > reserve.range.start && $0 < reserve.range.end }
    }
    let count = MappingReserve.seamCount
    #expect(boundaries() == 2 * count)
    #expect(reserve.release() && reserve.release())
    #expect(boundaries() == 2 * count - 4)
    #expect(reserve.count == count - 2)
    reserve.restore()
    #expect(boundaries() == 2 * count - 2)
    for _ in 0..<(count - 1) { #expect(reserve.release()) }
    #expect(!reserve.release())
    #expect(boundaries() == 0)
    for _ in 0...count { reserve.restore() }
    #expect(boundaries() == 2 * count)
    #expect(reserve.count == count)
  }

  @Test("What was given up of the reserve is taken back as soon as two runs of pages become one")
  func reserveRestored() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime(.byProtection)
      let region = try runtime.map(Self.failing(at: []), byteCount: 8 * pageBytes)
      let reserve = try #require(region.twin?.reserve)
      #expect(reserve.release())
      for page in [0, 2] { #expect(region.access(page * pageBytes).isByte) }
      #expect(reserve.count == MappingReserve.seamCount - 1)
      #expect(region.access(pageBytes).isByte)
      #expect(reserve.count == MappingReserve.seamCount)
    }
  }

  @Test(
    "Where a request can be opened in part only, because the program has split its memory, no page of it reads as zero",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func halfOpened() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime(.byProtection)
      let region = try runtime.map(
        ClosureProvider(
          requestSize: RequestSize(preferred: 4 * pageBytes, largest: 4 * pageBytes), permissions: .inSignalHandler
        ) { request, page in
          if (8..<12).contains(request.offset / pageBytes) { throw Refused() }
          page.append(repeating: 7, count: request.byteCount)
          return .filled
        }, byteCount: 16 * pageBytes)
      let middle = unsafe UnsafeMutableRawPointer(bitPattern: region.address + UInt(6 * pageBytes))
      #expect(unsafe madvise(middle, 10 * pageBytes, MADV_DONTDUMP) == 0)
      // This holds back mappings that can be released later: two of them, or one if mmap(2) goes one beyond the
      // limit.
      let seam = unsafe mmap(nil, 3 * pageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!
      #expect(unsafe mprotect(seam + pageBytes, pageBytes, PROT_READ) == 0)
      cts_keep_heap()
      #expect(region.access(12 * pageBytes) == .byte(7))
      let reserve = try #require(region.twin?.reserve)
      while reserve.release() {}
      _ = cts_use_up_mappings()
      guard unsafe mprotect(seam + pageBytes, pageBytes, PROT_NONE) == 0 else { _exit(2) }
      guard region.access(4 * pageBytes) == .signal(SIGSEGV) else { _exit(3) }
      let cause = region.failure(at: 4 * pageBytes)?.cause as? ResolutionError
      guard cause == .refused(.noMemory), cause?.description.contains("vm.max_map_count") == true else { _exit(4) }
      // A page that can be opened alone has the right bytes.
      for page in [5, 6, 7, 4, 5] {
        let outcome = region.access(page * pageBytes)
        guard outcome == .signal(SIGSEGV) || outcome == .byte(7) else { _exit(CInt(10 + page)) }
      }
      _exit(0)
    }
  }
}
