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

  @Test(
    "A signal handler that touches lazy memory interrupts faults and calls of its thread, which all go on",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: ForcedExitTests.Way.allCases)
  func touchingHandler(way: ForcedExitTests.Way) async {
    await #expect(processExitsWith: .success) { [name = way.rawValue as String] in
      cts_end_after(120)
      let way = ForcedExitTests.Way(rawValue: name)!
      let runtime = try way.runtime()
      let numbered = ClosureProvider(requestSize: .singlePage, permissions: way.permissions) { request, page in
        page.append(repeating: UInt8(request.offset / pageBytes % 251 + 1), count: pageBytes)
        return .filled
      }
      // Swift's runtime has locks too: the first use of a type on a thread of the library would wait for this thread,
      // if the handler interrupts its own first use of a type.
      try Self.callAndTouch(way, runtime, numbered, microseconds: 0)
      try Self.callAndTouch(way, runtime, numbered, microseconds: 50)
      #expect(cts_timer_touches() > 0)
      #expect(cts_timer_mistakes() == 0)
    }
  }

  /// Makes calls of a runtime and faults, while a timer's handler touches lazy memory again and again. With 0
  /// microseconds there is no timer.
  private static func callAndTouch(
    _ way: ForcedExitTests.Way, _ runtime: FaultRuntime, _ numbered: ClosureProvider, microseconds: UInt32
  ) throws {
    let touched = try runtime.map(numbered, byteCount: 8_000 * pageBytes, options: RegionOptions(advice: .random))
    let provider = way.provider
    let regions = try (0..<7).map { _ in
      try runtime.map(provider, byteCount: 512 * pageBytes, options: RegionOptions(advice: .random))
    }
    // Other threads fault as well, so that those of the runtime have more than one to serve.
    let others = (1...2).map { number in TestThread { _ = mismatches(in: regions[number]) } }
    // This thread frees nothing while the timer runs.
    var closed: [LazyRegion] = []
    closed.reserveCapacity(512)
    var wrong = 0
    if microseconds > 0 { #expect(cts_touch_by_timer(touched.address, touched.byteCount, microseconds) == 0) }
    for page in 0..<512 {
      for region in regions[3...] { try region.prefetch((page * pageBytes)..<((page + 1) * pageBytes)) }
      // The handler comes to these pages last.
      let last = 8_000 - page
      try touched.prefetch(((last - 1) * pageBytes)..<(last * pageBytes))
      if regions[0].access(page * pageBytes) != .byte(expectedByte(page * pageBytes)) { wrong += 1 }
      guard page.isMultiple(of: 8) else { continue }
      let opened = try runtime.map(provider, byteCount: 2 * pageBytes)
      if opened.access(pageBytes) != .byte(expectedByte(pageBytes)) { wrong += 1 }
      opened.close()
      closed.append(opened)
    }
    if microseconds > 0 { #expect(cts_touch_by_timer(touched.address, pageBytes, 0) == 0) }
    #expect(wrong == 0)
    #expect(mismatches(in: regions[3]) == [])
    for thread in others { #expect(thread.join()) }
  }

  /// A provider that notes whether signals are held when it is asked for its request size.
  private struct MaskProvider: PageProvider {
    let held = Log<Bool>()

    var requestSize: RequestSize {
      held.add(InterruptedFaultTests.holdsSignals)
      return .singlePage
    }
    var permissions: ProviderPermissions { .inSignalHandler }

    func page(_ request: PageRequest, into page: inout PageBuffer) -> PageContents { .zero }
  }

  private static var holdsSignals: Bool {
    var mask = sigset_t()
    return unsafe pthread_sigmask(SIG_BLOCK, nil, &mask) == 0 && sigismember(&mask, SIGUSR1) == 1
  }

  @Test("Signals are held while a region is mapped, and not afterwards", arguments: Delivery.ofRegions)
  func mapping(delivery: Delivery) throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
    let provider = MaskProvider()
    let mapper = Later {
      cts_unblock_signals()
      let isHeldBefore = Self.holdsSignals
      let region = try? runtime.map(provider, byteCount: pageBytes)
      return region != nil && !isHeldBefore && !Self.holdsSignals
    }
    #expect(try mapper.result())
    #expect(!provider.held.all.isEmpty)
    #expect(provider.held.all.allSatisfy { $0 })
  }

  @Test(
    "A thread that waits in close() gets its signals meanwhile", .enabled(if: !Host.isSanitized, SkipReason.sanitizer),
    arguments: Delivery.ofRegions, [false, true])
  func closing(delivery: Delivery, isPinned: Bool) async {
    // With this delivery closing waits for no provider.
    if !isPinned, delivery != .eventLoop { return }
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String, isPinned = isPinned as Bool] in
      cts_end_after(60)
      let isInside = Gate()
      let gate = Gate()
      let runtime = try FaultRuntime(
        FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!, closeTimeout: .seconds(3600)))
      let region = try runtime.map(
        ClosureProvider(permissions: isPinned ? .inSignalHandler : .standard) { _, _ in
          if !isPinned {
            isInside.open()
            gate.wait()
          }
          return .zero
        }, byteCount: pageBytes)
      let user = TestThread {
        if !isPinned { return _ = region.access(0) }
        try? region.withResident(0..<pageBytes) { _ in
          isInside.open()
          gate.wait()
        }
      }
      isInside.wait()
      let number = Atomic<CInt>(0)
      let closer = TestThread {
        cts_unblock_signals()
        number.store(cts_thread_id(), ordering: .sequentiallyConsistent)
        region.close()
      }
      #expect(eventually { region.isClosed && number.load(ordering: .sequentiallyConsistent) != 0 })
      // The first ones may come before the wait begins.
      for count in 1...30 {
        #expect(cts_count_signals(number.load(ordering: .sequentiallyConsistent)) == 0)
        #expect(eventually { cts_signal_count() == count })
      }
      #expect(!closer.isDone)
      gate.open()
      #expect(closer.join())
      #expect(user.join())
    }
  }
}
