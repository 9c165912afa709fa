import CTestSupport
import CUFFD
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Memory that closing cannot take away", .timeLimit(.minutes(6)))
struct LeftBehindTests {
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

  @Test(
    "With a userfaultfd, missing pages of sealed memory fail for good, also when the runtime is gone (mseal)",
    arguments: [Delivery.eventLoop, .sigbus])
  func sealedWithDescriptor(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      limitTime()
      let configuration = FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!)
      var runtime: FaultRuntime? = try FaultRuntime(configuration)
      var region: LazyRegion? = try runtime!.map(
        patternProvider(inFaultingThread: true), byteCount: 64 * pageBytes, options: RegionOptions(advice: .random))
      let address = region!.address
      for page in [0, 9] { #expect(region!.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
      let error = cts_seal(address, 64 * pageBytes)
      guard error != -ENOSYS else { return }
      #expect(error == 0)
      // A page that is missing can still come.
      #expect(region!.access(3 * pageBytes) == .byte(expectedByte(3 * pageBytes)))
      region!.close()
      #expect(region!.core.isLeftBehind)
      try Self.expectPagesKept(at: address, failing: [20])
      #expect(region!.failure(at: 20 * pageBytes)?.cause as? ResolutionError == .regionClosed)
      region = nil
      try Self.expectPagesKept(at: address, failing: [20, 21])
      do {
        // The runtime still works.
        let other = try runtime!.map(patternProvider(inFaultingThread: true), byteCount: 4 * pageBytes)
        #expect(mismatches(in: other) == [])
      }
      runtime = nil
      // One page has failed while there was a runtime, and another one is touched for the first time.
      try Self.expectPagesKept(at: address, failing: [20, 22])
      let next = try FaultRuntime(configuration).map(
        patternProvider(inFaultingThread: true), byteCount: 4 * pageBytes)
      #expect(mismatches(in: next) == [])
    }
  }

  @Test(
    "Where the kernel refuses to protect and to unmap memory, its missing pages fail, also when the runtime is gone",
    arguments: [Delivery.eventLoop, .sigbus], [ENOMEM, ENOSYS])
  func refused(delivery: Delivery, error: CInt) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String, error = error as CInt] in
      limitTime()
      var runtime: FaultRuntime? = try FaultRuntime(FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!))
      var region: LazyRegion? = try runtime!.map(
        patternProvider(inFaultingThread: true), byteCount: 64 * pageBytes, options: RegionOptions(advice: .random))
      let address = region!.address
      for page in [0, 3, 9] { #expect(region!.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
      #expect(cts_deny_taking_away(address, error) == 0)
      region!.close()
      #expect(region!.core.isLeftBehind)
      region = nil
      try Self.expectPagesKept(at: address, failing: [20])
      runtime = nil
      try Self.expectPagesKept(at: address, failing: [20, 21])
    }
  }

  @Test("A thread that waits for a stuck provider ends when its region is sealed, and closed")
  func sealedWithStuckProvider() async {
    await #expect(processExitsWith: .success) {
      limitTime()
      let gate = Gate()
      let asked = Requests()
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop, closeTimeout: .milliseconds(100)))
      let region = try runtime.map(
        ClosureProvider { request, _ in
          asked.add(request)
          gate.wait()
          return .zero
        }, byteCount: 4 * pageBytes)
      let toucher = Later { [address = region.address] in read(address) }
      #expect(eventually { asked.all.count == 1 })
      let error = cts_seal(region.address, 4 * pageBytes)
      if error != -ENOSYS {
        #expect(error == 0)
        region.close()
        #expect(region.core.isLeftBehind)
        #expect(try toucher.result() == .signal(SIGBUS))
      }
      gate.open()
    }
  }

  @Test("A handler whose provider does not return keeps its memory, and takes no time from another one")
  func stuckBesideHealthy() async {
    await #expect(processExitsWith: .success) {
      limitTime()
      let gate = Gate()
      let asked = Requests()
      let loops = Monitor<[EventLoop]>([])
      var runtime: FaultRuntime? = try FaultRuntime(
        FaultRuntimeConfiguration(delivery: .eventLoop, handlerThreads: 2, closeTimeout: .seconds(2)))
      // Regions are dealt to the handlers in turn.
      var regions = [
        try runtime!.map(
          ClosureProvider(permissions: .onHandler) { request, _ in
            asked.add(request)
            gate.wait()
            return .zero
          }, byteCount: pageBytes),
        // This one ends some time after its handler has been asked to let go of the memory.
        try runtime!.map(
          ClosureProvider(permissions: .onHandler) { request, _ in
            asked.add(request)
            let loop = loops.withLock { $0[1] }
            _ = eventually { !loop.hasLeftBehind }
            let end = ContinuousClock.now + .milliseconds(10)
            while ContinuousClock.now < end {}
            return .zero
          }, byteCount: pageBytes),
      ]
      let addresses = try (0..<2).map { _ in
        let region = try runtime!.map(patternProvider(), byteCount: 4 * pageBytes)
        let address = region.address
        region.close()
        // The kernel refuses nothing here, so both handlers have memory that they can take away.
        let loop = try #require(region.server as? EventLoop)
        loop.leftBehind.withLock { $0.append(region.core) }
        loops.withLock { $0.append(loop) }
        return address
      }
      let touchers = regions.map { region in Later { [address = region.address] in read(address) } }
      #expect(eventually { asked.all.count == 2 })
      for region in regions { region.close() }
      for toucher in touchers { #expect(try toucher.result() == .signal(SIGSEGV)) }
      regions = []
      runtime = nil
      #expect(addresses.map { cuffd_is_mapped(UInt64($0), 4 * pageBytes) } == [true, false])
      loops.withLock { $0 = [] }
      #expect(eventually { runtimeThreads(named: "fault-handler1").isEmpty })
      #expect(!runtimeThreads(named: "fault-handler0").isEmpty)
      gate.open()
    }
  }

  /// Expects the pages that were there before the memory was sealed and closed, and a signal for others. Throws an
  /// error where a touch does not end.
  private static func expectPagesKept(at address: UInt, failing: [Int]) throws {
    for page in [0, 3, 9] {
      let toucher = Later { read(address + UInt(page * pageBytes)) }
      #expect(try toucher.result() == .byte(expectedByte(page * pageBytes)))
    }
    for page in failing {
      let toucher = Later { read(address + UInt(page * pageBytes)) }
      // An error that is thrown here ends the test, because the thread of another touch would wait as well.
      let outcome = try toucher.result()
      #expect(outcome == .signal(SIGBUS), "page \(page)")
    }
  }
}
