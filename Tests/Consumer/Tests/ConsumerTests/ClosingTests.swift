import Archive
import FaultRuntime
import Glibc
import Testing

@Suite("Closing", .timeLimit(.minutes(6)))
struct ClosingTests {
  @Test("A region that was closed says so", arguments: Host.deliveries)
  func close(_ delivery: Delivery) throws {
    let runtime = try makeRuntime(delivery)
    let region = try runtime.map(Squares(byteCount: 100))
    #expect(runtime.regionCount == 1)
    #expect(!region.isClosed)
    region.close()
    region.close()
    #expect(region.isClosed)
    #expect(runtime.regionCount == 0)
    let error = #expect(throws: FaultRuntimeError.self) { try region.read(0..<1) }
    #expect(error?.code == .regionClosed)
  }

  @Test("A region that nobody holds is closed, and one that is held keeps the runtime", arguments: Host.deliveries)
  func ownership(_ delivery: Delivery) throws {
    let runtime = try makeRuntime(delivery)
    do {
      let region = try runtime.map(Squares(byteCount: 100))
      #expect(mismatches(region, 0..<100) == 0)
    }
    #expect(runtime.regionCount == 0)
    let region = try makeRuntime(delivery).map(Squares(byteCount: 100))
    #expect(mismatches(region, 0..<100) == 0)
  }

  @Test("A touch after the end is SIGSEGV, never zero", arguments: Host.deliveries)
  func touch(_ delivery: Delivery) async {
    let name = delivery.rawValue
    await #expect(processExitsWith: .signal(SIGSEGV)) { [name = name as String] in
      let region = try makeRuntime(Delivery(rawValue: name) ?? .auto).map(Squares(byteCount: 100))
      let bytes = unsafe region.unsafeBytes
      region.close()
      exit(CInt(unsafe bytes[0]))
    }
  }
}
