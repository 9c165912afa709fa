import FaultRuntime
import Testing

// The compiler removes many allocations, but not in a debug build.
#if !DEBUG
  @Suite("Allocations on threads of the program", .timeLimit(.minutes(6)))
  struct AllocationTests {
    private static let cases = Host.deliveries.flatMap { delivery in
      // With `sigbus` every provider runs on the faulting thread.
      (delivery == .sigbus ? ["memory"] : ["memory", "pool"]).map { (delivery, $0) }
    }

    @Test("No signal can interrupt a call of the library while it allocates or frees memory", arguments: cases)
    func held(delivery: Delivery, place: String) throws {
      #expect(try run("Allocating", [delivery.rawValue, place]) == .exit(0))
    }
  }
#endif
