import CTestSupport
import CUFFD
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// What the program does to the protection of a region before it touches the missing pages.
private enum Change: CaseIterable {
  case readOnly, awayAndBack, half, executable

  func callAsFunction(_ region: LazyRegion) -> CInt {
    let start = unsafe UnsafeMutableRawPointer(bitPattern: region.address)
    let length = region.core.range.byteCount
    switch self {
    case .readOnly: return unsafe mprotect(start, length, PROT_READ)
    case .awayAndBack:
      return unsafe mprotect(start, length, PROT_NONE) + mprotect(start, length, PROT_READ | PROT_WRITE)
    case .half: return unsafe mprotect(start, length / 2, PROT_READ | PROT_WRITE)
    case .executable: return unsafe mprotect(start, length, PROT_READ | PROT_WRITE | PROT_EXEC)
    }
  }
}

/// With protection alone (before Linux 6.15), each of these would read zeros (docs/limits.md).
@Suite(
  "Memory whose missing pages have guard markers", .timeLimit(.minutes(6)),
  .enabled(if: cuffd_has_guards(), "the kernel has no guard markers for shared memory"))
struct GuardMarkerTests {
  private static let pages = 64

  private func region(
    _ access: RegionOptions.Access = .readWrite, mayBlock: Bool = false
  ) throws -> LazyRegion {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigsegv))
    return try runtime.map(
      patternProvider(requestSize: .singlePage, mayBlock: mayBlock, inFaultingThread: !mayBlock),
      byteCount: Self.pages * pageBytes, options: RegionOptions(access: access, advice: .random))
  }

  private func byte(_ page: Int) -> Access { .byte(expectedByte(page * pageBytes)) }

  @Test(
    "A change of the protection makes no page of zeros", arguments: Change.allCases, [false, true])
  private func protection(change: Change, mayBlock: Bool) throws {
    let region = try region(mayBlock: mayBlock)
    for page in [0, 5, 40] { #expect(region.access(page * pageBytes) == byte(page)) }
    #expect(change(region) == 0)
    for page in 0..<Self.pages { #expect(region.access(page * pageBytes) == byte(page)) }
    if change == .readOnly { #expect(write(1, to: region.address) == .signal(SIGSEGV)) }
  }

  @Test("Memory without access in a hole of a region stays without access, and what it has stays its own")
  func foreignGuard() throws {
    let region = try region()
    let hole = region.address + UInt(7 * pageBytes)
    let place = unsafe UnsafeMutableRawPointer(bitPattern: hole)
    let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    let taken = unsafe mmap(place, 2 * pageBytes, PROT_READ | PROT_WRITE, flags, -1, 0)
    #expect(UInt(bitPattern: taken) == hole)
    #expect(write(77, to: hole) == .byte(77))
    #expect(unsafe mprotect(place, 2 * pageBytes, PROT_NONE) == 0)
    // The first page has memory, and the second one has none.
    for page in 0..<2 {
      for _ in 0..<2 {
        #expect(read(hole + UInt(page * pageBytes)) == .signal(SIGSEGV))
        #expect(write(1, to: hole + UInt(page * pageBytes)) == .signal(SIGSEGV))
      }
    }
    #expect(unsafe mprotect(place, 2 * pageBytes, PROT_READ) == 0)
    #expect(read(hole) == .byte(77))
    #expect(read(hole + UInt(pageBytes)) == .byte(0))
    for page in [6, 9] { #expect(region.access(page * pageBytes) == byte(page)) }
    // The region unmaps its whole range, and this memory with it. A hole would go to other memory of the process.
  }

  @Test(
    "Memory that was moved inside of its region keeps what it has, and what it has not fails", arguments: [false, true])
  func movedInside(mayBlock: Bool) async {
    // The process is a new one, because closing the region unmaps whatever came into the hole.
    await #expect(processExitsWith: .success) { [mayBlock = mayBlock as Bool] in
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigsegv))
      let region = try runtime.map(
        patternProvider(requestSize: .singlePage, mayBlock: mayBlock, inFaultingThread: !mayBlock),
        byteCount: Self.pages * pageBytes, options: RegionOptions(advice: .random))
      func byte(_ page: Int) -> Access { .byte(expectedByte(page * pageBytes)) }
      #expect(region.access(0) == byte(0))
      let target = region.address + UInt(32 * pageBytes)
      #expect(cts_move_mapping(region.address, 4 * pageBytes, target) == 0)
      #expect(read(target) == byte(0))
      for page in 1..<4 { #expect(read(target + UInt(page * pageBytes)) == .signal(SIGSEGV)) }
      for page in [5, 31, 36, 63] { #expect(region.access(page * pageBytes) == byte(page)) }
      // The memory is still that of the page that was moved.
      #expect(read(target) == byte(0))
    }
  }

  @Test("Runs of open pages cost no mapping")
  func mappings() throws {
    let region = try region()
    for page in stride(from: 0, to: Self.pages, by: 2) { #expect(region.access(page * pageBytes) == byte(page)) }
    #expect(mappingStarts().count { region.core.range.contains($0) } <= 1)
    let readOnly = try self.region(.readOnly)
    for page in stride(from: 0, to: Self.pages, by: 2) { #expect(readOnly.access(page * pageBytes) == byte(page)) }
    #expect(write(1, to: readOnly.address) == .signal(SIGSEGV))
    #expect(write(1, to: readOnly.address + UInt(pageBytes)) == .signal(SIGSEGV))
    #expect(mappingStarts().count { readOnly.core.range.contains($0) } <= 1)
  }

  @Test("A debugger sees no zeros, and makes no page")
  func debugger() throws {
    let region = try region()
    #expect(region.access(0) == byte(0))
    let memory = unsafe open("/proc/self/mem", O_RDONLY)
    defer { close(memory) }
    var seen: UInt8 = 0
    #expect(unsafe pread(memory, &seen, 1, off_t(region.address)) == 1 && seen == expectedByte(0))
    for page in 1..<Self.pages {
      #expect(unsafe pread(memory, &seen, 1, off_t(region.address) + off_t(page * pageBytes)) == -1)
    }
    #expect(region.kernelCount("Rss") == pageBytes)
  }

  @Test("Zeros in one answer of many pages take no memory before they are touched")
  func zeros() throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigsegv))
    let region = try runtime.map(ZeroProvider(), byteCount: 4096 * pageBytes)
    try region.populate()
    #expect(region.kernelCount("Rss") <= 128 * pageBytes)
    for page in [0, 1, 4095] { #expect(region.access(page * pageBytes) == .byte(0)) }
    #expect(write(9, to: region.address + UInt(100 * pageBytes)) == .byte(9))
    #expect(region.access(100 * pageBytes) == .byte(9))
  }
}
