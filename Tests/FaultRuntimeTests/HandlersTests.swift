import CUFFD
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("The handlers of a runtime", .timeLimit(.minutes(6)))
struct HandlersTests {
  /// The error has no errno where the host has refused a userfaultfd. It has one where descriptors are used up.
  @Test(
    "Another handler is tried again, unless the host has refused it",
    .enabled(if: cuffd_allowed_cpu_count() > 1, SkipReason.twoCPUs), arguments: [nil, KernelErrno.tooManyOpenFiles])
  func another(errno: KernelErrno?) throws {
    let tries = Monitor(0)
    let handlers = try Handlers(count: nil) { number, watchdog throws(FaultRuntimeError) in
      guard number == 0 else {
        tries.withLock { $0 += 1 }
        throw FaultRuntimeError(.userfaultfdUnavailable, "no descriptor", errno: errno)
      }
      let configuration = FaultRuntimeConfiguration(delivery: .eventLoop)
      return try EventLoop(
        configuration: configuration, pageSize: .ofHost(),
        pool: ProviderPool(limits: PoolLimits(threads: 1), ownThreads: OwnThreads()), watchdog: watchdog,
        number: number)
    }
    defer { handlers.stop(nanoseconds: 1_000_000_000) }
    let first = handlers.next()
    for _ in 0..<3 { #expect(handlers.next() === first) }
    #expect(tries.withLock { $0 } == (errno == nil ? 1 : 3))
  }
}
