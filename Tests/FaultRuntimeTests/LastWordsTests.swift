import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

private struct DiskOnFire: Error {}

@Suite(
  "A program that dies of a failed page says why", .timeLimit(.minutes(6)),
  .enabled(if: Host.features.contains(.poison), SkipReason.poison))
struct LastWordsTests {
  private static let line =
    "FaultRuntime: region 'weights', page at offset \(2 * pageBytes), provider ClosureProvider: DiskOnFire()\n"

  /// Touches a page whose provider throws an error.
  private static func touch(_ delivery: Delivery, explains: Bool = true) throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery, explainsFailures: explains))
    let region = try runtime.map(
      ClosureProvider(permissions: .inSignalHandler) { _, _ in throw DiskOnFire() }, byteCount: 3 * pageBytes,
      options: RegionOptions(name: "weights"))
    print(region.load(fromByteOffset: 2 * pageBytes + 5, as: UInt8.self))
  }

  @Test("One line with region, offset, provider and cause, and then the default action")
  func eventLoop() async {
    let result = await #expect(processExitsWith: .signal(SIGBUS), observing: [\.standardErrorContent]) {
      // The sanitizers and Swift's backtraces have handlers of their own.
      signal(SIGBUS, SIG_DFL)
      try Self.touch(.eventLoop)
    }
    #expect(result.errors == Self.line)
  }

  @Test("The same in the faulting thread")
  func faultingThread() async {
    let result = await #expect(processExitsWith: .signal(SIGBUS), observing: [\.standardErrorContent]) {
      signal(SIGBUS, SIG_DFL)
      try Self.touch(.sigbus)
    }
    #expect(result.errors == Self.line)
  }

  @Test(
    "The same with memory that is guarded by its protection, where the signal is SIGSEGV", arguments: [false, true])
  func protection(ignores: Bool) async {
    let result = await #expect(processExitsWith: .signal(SIGSEGV), observing: [\.standardErrorContent]) {
      [ignores = ignores as Bool] in
      signal(SIGSEGV, ignores ? SIG_IGN : SIG_DFL)
      try Self.touch(.sigsegv)
    }
    #expect(result.errors == Self.line)
  }

  @Test("A program that ignores SIGBUS dies of a fault all the same, and says why")
  func ignored() async {
    let result = await #expect(processExitsWith: .signal(SIGBUS), observing: [\.standardErrorContent]) {
      signal(SIGBUS, SIG_IGN)
      try Self.touch(.eventLoop)
    }
    #expect(result.errors == Self.line)
  }

  @Test("A program with a handler of its own is told nothing")
  func handled() async {
    let result = await #expect(processExitsWith: .exitCode(42), observing: [\.standardErrorContent]) {
      signal(SIGBUS) { _ in _exit(42) }
      try Self.touch(.eventLoop)
    }
    #expect(!result.errors.contains("FaultRuntime"))
  }

  @Test(
    "Where it is not wanted nothing is said, whatever the delivery",
    arguments: [Delivery.eventLoop, .sigbus, .sigsegv])
  func silent(delivery: Delivery) async {
    let result = await #expect(processExitsWith: .signal(delivery.signal), observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String] in
      signal(SIGBUS, SIG_DFL)
      signal(SIGSEGV, SIG_DFL)
      try Self.touch(try #require(Delivery(rawValue: name)), explains: false)
    }
    #expect(!result.errors.contains("FaultRuntime"))
  }

  @Test("A runtime that explains its failures does not explain those of another one that does not")
  func other() async {
    let result = await #expect(processExitsWith: .signal(SIGBUS), observing: [\.standardErrorContent]) {
      signal(SIGBUS, SIG_DFL)
      let explaining = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigbus))
      let region = try explaining.map(ZeroProvider(), byteCount: pageBytes)
      #expect(region.load(fromByteOffset: 0, as: UInt8.self) == 0)
      try Self.touch(.sigbus, explains: false)
    }
    #expect(!result.errors.contains("FaultRuntime"))
  }
}
