import CTestSupport
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Faults that signals interrupt", .timeLimit(.minutes(6)))
struct InterruptedFaultTests {
  private final class Requests: Sendable {
    let count = Atomic<Int>(0)
  }

  /// Keeps the CPU for a while, so that a timer has time to interrupt the thread that waits.
  private static func work(nanoseconds: Int) {
    func now() -> Int {
      var time = timespec()
      unsafe clock_gettime(CLOCK_MONOTONIC, &time)
      return time.tv_sec * 1_000_000_000 + time.tv_nsec
    }
    let end = now() + nanoseconds
    while now() < end {}
  }

  @Test(
    "Each page is asked for once, although its thread faults again after each signal",
    arguments: [ProviderPermissions.onHandler.rawValue, ProviderPermissions.standard.rawValue])
  func askedOnce(permissions: ProviderPermissions.RawValue) async {
    await #expect(processExitsWith: .success) { [permissions = permissions as ProviderPermissions.RawValue] in
      let requests = Requests()
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop))
      let pages = 50
      let region = try runtime.map(
        ClosureProvider(requestSize: .singlePage, permissions: ProviderPermissions(rawValue: permissions)) {
          request, page in
          requests.count.add(1, ordering: .relaxed)
          Self.work(nanoseconds: 500_000)
          page.append(expectedBytes(request.range))
          return .filled
        }, byteCount: pages * pageBytes, options: RegionOptions(advice: .random))
      // The handler of the timer touches memory that is there.
      let touched = Scratch(pages: 1)
      #expect(cts_touch_by_timer(touched.range.start, pageBytes, 100) == 0)
      for page in 0..<pages { #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
      #expect(cts_touch_by_timer(touched.range.start, pageBytes, 0) == 0)
      #expect(cts_timer_touches() > pages)
      #expect(requests.count.load(ordering: .relaxed) == pages)
    }
  }
}
