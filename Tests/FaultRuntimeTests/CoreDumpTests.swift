import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Core dumps", .timeLimit(.minutes(6)))
struct CoreDumpTests {
  /// Returns for each mapping of the region whether the kernel leaves it out of core dumps.
  private func leftOut(_ region: LazyRegion) -> Set<Bool> {
    var found: Set<Bool> = []
    var isOurs = false
    for line in lines("/proc/self/smaps") {
      let words = line.split(separator: " ")
      if let range = words.first?.split(separator: "-"), range.count == 2, let start = UInt(range[0], radix: 16),
        UInt(range[1], radix: 16) != nil
      {
        isOurs = region.core.range.contains(start)
      } else if isOurs, words.first == "VmFlags:" {
        found.insert(words.contains("dd"))
      }
    }
    return found
  }

  @Test(
    "They contain a region, unless its options say otherwise", arguments: [Delivery.eventLoop, .sigbus, .sigsegv],
    [true, false])
  func option(delivery: Delivery, isIn: Bool) throws {
    #expect(RegionOptions().isInCoreDumps)
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
    let region = try runtime.map(
      patternProvider(inFaultingThread: true), byteCount: 64 * pageBytes, options: RegionOptions(isInCoreDumps: isIn))
    #expect(leftOut(region) == [!isIn])
    for page in [0, 3, 40] { #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
    #expect(leftOut(region) == [!isIn])
  }
}
