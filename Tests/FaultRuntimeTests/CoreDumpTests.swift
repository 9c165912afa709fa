import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Core dumps", .timeLimit(.minutes(6)))
struct CoreDumpTests {
  /// Returns for each mapping of the region whether the kernel leaves it out of core dumps.
  private func leftOut(_ region: LazyRegion) -> Set<Bool> {
    let mappings = Mapping.all.filter { region.core.range.contains($0.range.lowerBound) }
    return Set(mappings.map { $0.flags.contains("dd") })
  }

  @Test(
    "They contain a region, unless its options say otherwise", arguments: Delivery.ofRegions,
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
