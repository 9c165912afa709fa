import CTestSupport
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Memory that the program has sealed", .timeLimit(.minutes(6)))
struct SealedMemoryTests {
  @Test(
    "Pages that the program has sealed keep their bytes when the region is closed (mseal, Linux 6.10)",
    arguments: [false, true])
  func sealed(mayGuard: Bool) async {
    await #expect(processExitsWith: .success) { [mayGuard = mayGuard as Bool] in
      let runtime = try FaultRuntime(mayGuard ? FaultRuntimeConfiguration(delivery: .sigsegv) : .byProtection)
      var region: LazyRegion? = try runtime.map(patternProvider(inFaultingThread: true), byteCount: 64 * pageBytes)
      let address = region!.address
      for page in [0, 9] { #expect(region!.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
      let error = cts_seal(address, 64 * pageBytes)
      guard error != -ENOSYS else { return }
      #expect(error == 0)
      // A page that is absent can still come where it has a guard marker, and otherwise no more.
      let isGuarded = region!.twin?.isGuarded == true
      #expect(
        region!.access(3 * pageBytes) == (isGuarded ? .byte(expectedByte(3 * pageBytes)) : .signal(SIGSEGV)))
      for step in 0..<2 {
        if step == 0 { region!.close() } else { region = nil }
        for page in [0, 9] + (isGuarded ? [3] : []) {
          #expect(read(address + UInt(page * pageBytes)) == .byte(expectedByte(page * pageBytes)))
        }
        for page in [20] + (isGuarded ? [] : [3]) {
          #expect(read(address + UInt(page * pageBytes)) == .signal(SIGSEGV))
        }
      }
      // The runtime still works.
      let other = try runtime.map(patternProvider(inFaultingThread: true), byteCount: 4 * pageBytes)
      #expect(mismatches(in: other) == [])
    }
  }
}
