import CTestSupport
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("A signal that is passed on ends", .timeLimit(.minutes(6)))
struct PassedOnSignalTests {
  /// A runtime, and a region whose second page fails.
  private static func setUp(_ name: String) throws -> (FaultRuntime, LazyRegion) {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!))
    return (runtime, try runtime.map(failing, byteCount: 4 * pageBytes))
  }

  private static var failing: ClosureProvider {
    ClosureProvider(requestSize: .singlePage, permissions: .inMemory) { request, page in
      guard request.offset != pageBytes else { throw Refused() }
      page.appendExpected(request)
      return .filled
    }
  }

  @Test(
    "A crash reporter that was installed between two maps reports once, and the program ends",
    arguments: Delivery.ofRegions, [CTS_RESTORES, CTS_RAISES, CTS_RESTORES_HANDLER])
  func reporter(delivery: Delivery, kind: cts_reporter) async {
    await #expect(processExitsWith: .signal(delivery.signal)) {
      [name = delivery.rawValue as String, number = kind.rawValue as UInt32] in
      signal(Delivery(rawValue: name)!.signal, SIG_DFL)
      let (runtime, first) = try Self.setUp(name)
      #expect(first.access(0) == .byte(expectedByte(0)))
      #expect(cts_report_crashes(first.failureSignal, cts_reporter(rawValue: number), 1) == 0)
      let second = try runtime.map(Self.failing, byteCount: 4 * pageBytes)
      #expect(unsafe second.unsafeBytes[0] == expectedByte(0))
      _ = cts_load(second.address + UInt(pageBytes))
    }
  }

  @Test(
    "So does one that reports a signal that is not about lazy memory", arguments: Delivery.ofRegions,
    [CTS_RESTORES, CTS_RAISES])
  func foreign(delivery: Delivery, kind: cts_reporter) async {
    await #expect(processExitsWith: .signal(delivery.signal)) {
      [name = delivery.rawValue as String, number = kind.rawValue as UInt32] in
      signal(Delivery(rawValue: name)!.signal, SIG_DFL)
      let (runtime, first) = try Self.setUp(name)
      #expect(cts_report_crashes(first.failureSignal, cts_reporter(rawValue: number), 1) == 0)
      let second = try runtime.map(Self.failing, byteCount: 4 * pageBytes)
      #expect(unsafe second.unsafeBytes[0] == expectedByte(0))
      _ = cts_load(cts_foreign_page(first.failureSignal))
    }
  }

  @Test(
    "A handler that raises its signal again each time, and puts nothing back, does not get it for ever",
    arguments: Delivery.ofRegions)
  func raisesOnly(delivery: Delivery) async {
    await #expect(processExitsWith: .signal(delivery.signal)) {
      [name = delivery.rawValue as String] in
      signal(Delivery(rawValue: name)!.signal, SIG_DFL)
      let (runtime, first) = try Self.setUp(name)
      #expect(cts_report_crashes(first.failureSignal, CTS_RAISES_BLOCKED, .max) == 0)
      let second = try runtime.map(Self.failing, byteCount: 4 * pageBytes)
      _ = cts_load(second.address + UInt(pageBytes))
    }
  }

  @Test("When its row of signals has ended, such a handler gets the next signal", arguments: Delivery.ofRegions)
  func raisesAgain(delivery: Delivery) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String] in
      let number = Delivery(rawValue: name)!.signal
      signal(number, SIG_IGN)
      let (runtime, first) = try Self.setUp(name)
      #expect(cts_report_crashes(number, CTS_RAISES_BLOCKED, .max) == 0)
      let second = try runtime.map(Self.failing, byteCount: 4 * pageBytes)
      // After a second the signal goes to the older action, which ignores it.
      raise(number)
      let count = cts_report_count()
      #expect(count > 1_000)
      raise(number)
      #expect(cts_report_count() > count)
      withExtendedLifetime((first, second)) {}
    }
  }

  @Test(
    "A handler that calls ours as a function, and then touches lazy memory, has its own mask then",
    arguments: Delivery.ofRegions)
  func touchAfterFormer(delivery: Delivery) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String] in
      let number = Delivery(rawValue: name)!.signal
      #expect(cts_take(number, 0, 0) == 0)
      let (_, first) = try Self.setUp(name)
      #expect(cts_touch_after_former(number, first.address) == 0)
      raise(number)
      #expect(cts_taken_count() == 1)
      #expect(cts_touched_after_former() == CInt(expectedByte(0)))
    }
  }

  @Test(
    "A signal that comes while the handler of an earlier one runs gets to the same handler",
    arguments: Delivery.ofRegions)
  func sentMeanwhile(delivery: Delivery) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String] in
      let number = Delivery(rawValue: name)!.signal
      signal(number, SIG_DFL)
      #expect(cts_report_crashes(number, CTS_RAISES_TO_LIMIT, 700) == 0)
      let (runtime, first) = try Self.setUp(name)
      raise(number)
      #expect(cts_report_count() == 700)
      #expect(first.access(0) == .byte(expectedByte(0)))
      #expect(runtime.regionCount == 1)
    }
  }

  @Test(
    "A handler that mends nothing and puts nothing back does not get its fault for ever", arguments: Delivery.ofRegions)
  func returnsOnly(delivery: Delivery) async {
    await #expect(processExitsWith: .signal(delivery.signal)) {
      [name = delivery.rawValue as String] in
      signal(Delivery(rawValue: name)!.signal, SIG_DFL)
      let (runtime, first) = try Self.setUp(name)
      #expect(cts_report_crashes(first.failureSignal, CTS_ONLY_RETURNS, 900) == 0)
      let second = try runtime.map(Self.failing, byteCount: 4 * pageBytes)
      _ = cts_load(second.address + UInt(pageBytes))
    }
  }

  @Test("After a reporter has put back what it replaced, lazy memory works as before", arguments: Delivery.ofRegions)
  func restored(delivery: Delivery) async {
    for kind in [CTS_RESTORES, CTS_RESTORES_HANDLER] {
      await #expect(processExitsWith: .success) {
        [name = delivery.rawValue as String, number = kind.rawValue as UInt32] in
        // The handler of the checked access is the oldest one.
        let (runtime, first) = try Self.setUp(name)
        #expect(first.access(0) == .byte(expectedByte(0)))
        #expect(cts_report_crashes(first.failureSignal, cts_reporter(rawValue: number), 1) == 0)
        let second = try runtime.map(Self.failing, byteCount: 4 * pageBytes)
        #expect(second.access(pageBytes) == .signal(first.failureSignal))
        #expect(cts_report_count() == 1)
        #expect(second.access(0) == .byte(expectedByte(0)))
        #expect(first.access(2 * pageBytes) == .byte(expectedByte(2 * pageBytes)))
        let third = try runtime.map(Self.failing, byteCount: 4 * pageBytes)
        #expect(third.access(3 * pageBytes) == .byte(expectedByte(3 * pageBytes)))
      }
    }
  }

  @Test("A handler for one signal that is installed again gets one more signal", arguments: Delivery.ofRegions)
  func armedAgain(delivery: Delivery) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String] in
      let number = Delivery(rawValue: name)!.signal
      #expect(cts_take_as(number, CTS_RESETHAND, SIGUSR1) == 0)
      let (runtime, first) = try Self.setUp(name)
      #expect(first.access(pageBytes) == .signal(100 + number))
      for _ in 0..<3 {
        #expect(cts_take_as(number, CTS_RESETHAND, SIGUSR1) == 0)
        let again = try runtime.map(Self.failing, byteCount: 4 * pageBytes)
        #expect(again.access(pageBytes) == .signal(100 + number))
      }
    }
  }

  @Test("Any number of handlers may be installed one after another", arguments: Delivery.ofRegions)
  func takeovers(delivery: Delivery) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String] in
      let number = Delivery(rawValue: name)!.signal
      let (runtime, _) = try Self.setUp(name)
      for round in 0..<100 {
        #expect(cts_take_variant(number, CInt(round % 40)) == 0)
        let region = try runtime.map(Self.failing, byteCount: 4 * pageBytes)
        #expect(region.access(0) == .byte(expectedByte(0)))
        #expect(runtime.regionCount >= 1)
      }
    }
  }

  @Test(
    "The first process of a namespace ignores a signal that was sent, and lazy memory goes on",
    // ThreadSanitizer starts no threads in the child of a process with threads.
    .enabled(if: Host.isRoot, SkipReason.root), .enabled(if: !Host.isSanitized, SkipReason.sanitizer),
    arguments: Delivery.ofRegions)
  func firstProcess(delivery: Delivery) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String] in
      let delivery = Delivery(rawValue: name)!
      signal(delivery.signal, SIG_DFL)
      let index = Delivery.ofRegions.firstIndex(of: delivery)!
      let result = unsafe cts_as_first_process(
        { context in
          cts_end_after(20)
          let delivery = Delivery.ofRegions[Int(bitPattern: context) - 1]
          guard let (runtime, region) = try? Self.setUp(delivery.rawValue) else { return 1 }
          kill(getpid(), delivery.signal)
          guard unsafe region.unsafeBytes[0] == expectedByte(0) else { return 2 }
          guard unsafe region.unsafeBytes[2 * pageBytes] == expectedByte(2 * pageBytes) else { return 3 }
          withExtendedLifetime(runtime) {}
          return 0
        }, UnsafeMutableRawPointer(bitPattern: index + 1)!)
      #expect(result == 0)
    }
  }

  @Test(
    "A SIGBUS of memory that the program has mapped into a hole of a region is the program's",
    arguments: Delivery.ofRegions)
  func inHole(delivery: Delivery) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String] in
      cts_end_after(20)
      let (_, region) = try Self.setUp(name)
      #expect(region.access(0) == .byte(expectedByte(0)))
      #expect(cts_map_behind_end_of_file(region.address + UInt(2 * pageBytes)) == 0)
      #expect(region.access(2 * pageBytes) == .signal(SIGBUS))
      // In a forked child, the memory of the region is not there at all.
      let child = unsafe cts_forked(
        { context in
          cts_end_after(20)
          let address = UInt(bitPattern: context)
          guard cts_map_behind_end_of_file(address) == 0 else { return 1 }
          return TestSupport.read(address) == .signal(SIGBUS) ? 0 : 2
        }, UnsafeMutableRawPointer(bitPattern: region.address)!)
      #expect(child == 0)
    }
  }
}
