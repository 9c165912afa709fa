import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

private struct DiskOnFire: Error {}

/// An error with a text that is code of the program.
private struct Described: Error, CustomStringConvertible {
  let text: @Sendable () -> String
  var description: String { text() }
}

/// A number that a provider leaves for the text of its error.
private let shared = Atomic<UInt>(0)

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
    arguments: Delivery.ofRegions)
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

  // MARK: The text of an error is made by another thread

  private static let withoutText =
    "FaultRuntime: region 'weights', page at offset \(2 * pageBytes), provider ClosureProvider: "
    + "(the text of the error could not be made)\n"

  /// Maps a region whose provider throws an error with this text.
  private static func region(
    _ delivery: Delivery, in runtime: FaultRuntime? = nil, isDeadly: Bool = true, text: @escaping @Sendable () -> String
  ) throws -> LazyRegion {
    if isDeadly {
      signal(SIGBUS, SIG_DFL)
      signal(SIGSEGV, SIG_DFL)
    }
    let runtime = try runtime ?? FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
    return try runtime.map(
      ClosureProvider(permissions: .inSignalHandler) { _, _ in throw Described(text: text) },
      byteCount: 3 * pageBytes, options: RegionOptions(name: "weights"))
  }

  @Test("The text of an error is not made in the thread that faulted", arguments: Delivery.ofRegions)
  func elsewhere(delivery: Delivery) async {
    let result = await #expect(processExitsWith: .signal(delivery.signal), observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String] in
      let region = try Self.region(Delivery(rawValue: name)!) {
        UInt(pthread_self()) == shared.load(ordering: .relaxed) ? "made here" : "made elsewhere"
      }
      shared.store(UInt(pthread_self()), ordering: .relaxed)
      _ = cts_load(region.address + UInt(2 * pageBytes))
    }
    #expect(result.errors.contains("ClosureProvider: made elsewhere\n"))
  }

  @Test("A text that waits for a lock of the thread that dies does not hold up its end", arguments: Delivery.ofRegions)
  func lockedText(delivery: Delivery) async {
    let result = await #expect(processExitsWith: .signal(delivery.signal), observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String] in
      let lock = Monitor(0)
      let region = try Self.region(Delivery(rawValue: name)!) { lock.withLock { _ in "never made" } }
      lock.withLock { _ in _ = cts_load(region.address + UInt(2 * pageBytes)) }
    }
    #expect(result.errors.contains(Self.withoutText))
  }

  @Test("A text that touches the failed page ends the process as well", arguments: Delivery.ofRegions)
  func touchingText(delivery: Delivery) async {
    let result = await #expect(processExitsWith: .signal(delivery.signal), observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String] in
      let region = try Self.region(Delivery(rawValue: name)!) { "\(cts_load(shared.load(ordering: .relaxed)))" }
      shared.store(region.address + UInt(2 * pageBytes), ordering: .relaxed)
      _ = cts_load(shared.load(ordering: .relaxed))
    }
    #expect(result.errors.contains(Self.withoutText))
  }

  @Test("A text may touch lazy memory", arguments: Delivery.ofRegions)
  func lazyText(delivery: Delivery) async {
    let result = await #expect(processExitsWith: .signal(delivery.signal), observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String] in
      let delivery = Delivery(rawValue: name)!
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
      let other = try runtime.map(patternProvider(inFaultingThread: true), byteCount: pageBytes)
      let address = other.address
      let region = try Self.region(delivery, in: runtime) { "byte \(cts_load(address))" }
      _ = cts_load(region.address + UInt(2 * pageBytes))
    }
    #expect(result.errors.contains("ClosureProvider: byte \(expectedByte(0))\n"))
  }

  @Test(
    "Where no thread can be started, the program dies without a line", .enabled(if: Host.isRoot, SkipReason.root))
  func withoutThreads() async {
    let result = await #expect(processExitsWith: .signal(SIGSEGV), observing: [\.standardErrorContent]) {
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigsegv))
      var limit = rlimit(rlim_cur: 1, rlim_max: 1)
      #expect(unsafe setrlimit(__rlimit_resource_t(__RLIMIT_NPROC.rawValue), &limit) == 0)
      #expect(setuid(65534) == 0)
      let region = try Self.region(.sigsegv, in: runtime) { "never made" }
      guard runtimeThreads(named: "fault-words").isEmpty else { exit(3) }
      // Nothing is waited for.
      cts_end_after(4)
      _ = cts_load(region.address + UInt(2 * pageBytes))
    }
    #expect(!result.errors.contains("FaultRuntime"))
  }

  @Test("A forked child that touches the place of a failed page dies without a line", arguments: Delivery.ofRegions)
  func forked(delivery: Delivery) async {
    let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String] in
      let region = try Self.region(Delivery(rawValue: name)!, isDeadly: false) { "not of the child" }
      #expect(region.access(2 * pageBytes) == .signal(region.failureSignal))
      var address = region.address + UInt(2 * pageBytes)
      let code = unsafe cts_forked(
        {
          // The child waits for nothing.
          cts_end_after(4)
          return CInt(cts_load(unsafe $0.load(as: UInt.self)))
        }, &address)
      #expect(code == -SIGSEGV)
    }
    #expect(!result.errors.contains("FaultRuntime"))
  }

  // ThreadSanitizer permits no threads in a forked child, and makes vfork a fork.
  @Test(
    "A forked child has words of its own, although the parent's were being made",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: Delivery.ofRegions)
  func forkedMeanwhile(delivery: Delivery) async {
    let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String] in
      let isAsked = Gate()
      let gate = Gate()
      let region = try Self.region(Delivery(rawValue: name)!, isDeadly: false) {
        isAsked.open()
        gate.wait()
        return "of the parent"
      }
      #expect(region.access(2 * pageBytes) == .signal(region.failureSignal))
      let address = UInt64(region.address) + UInt64(2 * pageBytes)
      let signal = region.failureSignal
      let asker = TestThread { _ = cuffd_last_words(signal, address) }
      isAsked.wait()
      cts_end_after(120)
      var delivery = Delivery(rawValue: name)!
      let code = unsafe cts_forked(
        { pointer in
          cts_end_after(60)
          let delivery = unsafe pointer.load(as: Delivery.self)
          guard let region = try? LastWordsTests.region(delivery, text: { "of the child" }) else { return 3 }
          return CInt(cts_load(region.address + UInt(2 * pageBytes)))
        }, &delivery)
      #expect(code == -signal)
      gate.open()
      #expect(asker.join())
    }
    #expect(result.errors.contains("ClosureProvider: of the child\n"))
    // Where the child takes long, the text of the parent comes too late.
    #expect(result.errors.contains("ClosureProvider: of the parent\n") || result.errors.contains(Self.withoutText))
  }

  @Test(
    "A child of vfork that dies of a failed page says nothing and leaves its parent as it was",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func vforked() async {
    let result = await #expect(processExitsWith: .signal(SIGBUS), observing: [\.standardErrorContent]) {
      let region = try Self.region(.sigbus) { "the cause" }
      let code = cts_read_in_vfork(region.address + UInt(2 * pageBytes))
      guard code == -SIGBUS else { exit(3) }
      _ = cts_load(region.address + UInt(2 * pageBytes))
    }
    #expect(result.errors.split(separator: "\n").filter { $0.contains("the cause") }.count == 1)
  }

  @Test("Threads that die of one page whose text is not made leave one line at least", arguments: Delivery.ofRegions)
  func sameDeath(delivery: Delivery) async {
    let result = await #expect(processExitsWith: .signal(delivery.signal), observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String] in
      let gate = Gate()
      let region = try Self.region(Delivery(rawValue: name)!) {
        gate.wait()
        return "never made"
      }
      let address = region.address + UInt(2 * pageBytes)
      let threads = (0..<6).map { _ in TestThread { _ = cts_load(address) } }
      for thread in threads { _ = thread.join() }
    }
    #expect(result.errors.contains(Self.withoutText))
  }

  @Test("A thread that is cancelled while it dies, dies of its signal", arguments: Delivery.ofRegions)
  func cancelled(delivery: Delivery) async {
    let result = await #expect(processExitsWith: .signal(delivery.signal), observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String] in
      let isAsked = Gate()
      let gate = Gate()
      let region = try Self.region(Delivery(rawValue: name)!) {
        isAsked.open()
        gate.wait()
        return "never made"
      }
      let address = region.address + UInt(2 * pageBytes)
      let number = Monitor<pthread_t>(0)
      let thread = TestThread {
        number.withLock { $0 = pthread_self() }
        _ = cts_load(address)
      }
      isAsked.wait()
      pthread_cancel(number.withLock { $0 })
      _ = thread.join()
      exit(3)
    }
    #expect(result.errors.contains(Self.withoutText))
  }

  @Test("Standard error that takes nothing does not keep a program alive", arguments: [false, true])
  func blockedOutput(isTextMade: Bool) async {
    await #expect(processExitsWith: .signal(SIGBUS)) { [isTextMade = isTextMade as Bool] in
      let gate = Gate()
      let region = try Self.region(.sigbus) {
        if !isTextMade { gate.wait() }
        return "the cause"
      }
      var ends: [CInt] = [-1, -1]
      guard unsafe pipe(&ends) == 0, dup2(ends[1], STDERR_FILENO) >= 0 else { exit(3) }
      // The pipe is full, and nobody reads it.
      let flags = fcntl(STDERR_FILENO, F_GETFL)
      _ = fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK)
      var byte: UInt8 = 0
      while unsafe write(STDERR_FILENO, &byte, 1) == 1 {}
      _ = fcntl(STDERR_FILENO, F_SETFL, flags)
      _ = cts_load(region.address + UInt(2 * pageBytes))
    }
  }

  /// What the kernel puts on the stack. It is measured in this process, because the measurement calls functions whose
  /// first call in a process needs more of the stack.
  private static let frame = cts_signal_frame()

  private static let smallRooms = [3200, 3328, 3456, 3584, 3840, 4096, 5120, 6144, 8192, 12288]

  @Test(
    "A small alternate stack has the room that the end of the program needs",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: smallRooms, [false, true])
  func smallStack(room: Int, isTextMade: Bool) async {
    let result = await #expect(processExitsWith: .signal(SIGBUS), observing: [\.standardErrorContent]) {
      [size = Self.frame + room as Int, isTextMade = isTextMade as Bool] in
      let gate = Gate()
      let region = try Self.region(.eventLoop) {
        if !isTextMade { gate.wait() }
        return "the cause"
      }
      exit(cts_read_above_guard(size, region.address + UInt(2 * pageBytes)))
    }
    #expect(result.errors.contains(isTextMade ? "provider ClosureProvider: the cause" : Self.withoutText))
  }

  @Test(
    "A small alternate stack has the room for the way to the program's handler",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: smallRooms)
  func smallStackOfHandler(room: Int) async {
    await #expect(processExitsWith: .exitCode(42)) { [size = Self.frame + room as Int] in
      signal(SIGBUS, cts_exit_in_handler)
      let region = try Self.region(.eventLoop, isDeadly: false) { "the cause" }
      exit(cts_read_above_guard(size, region.address + UInt(2 * pageBytes)))
    }
  }

  @Test("Threads that die at the same time get their lines one after the other", arguments: Delivery.ofRegions)
  func sameTime(delivery: Delivery) async {
    let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String] in
      let delivery = Delivery(rawValue: name)!
      // Each runtime has a thread for this, and any of them may write the line.
      let runtimes = try (0..<3).map { _ in try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery)) }
      let regions = try runtimes.map { try Self.region(delivery, in: $0, isDeadly: false) { "the cause" } }
      for region in regions { _ = region.access(2 * pageBytes) }
      let threads = regions.map { region in
        TestThread {
          for _ in 0..<40 {
            _ = cuffd_last_words(region.failureSignal, UInt64(region.address) + UInt64(2 * pageBytes))
            // Nothing is known of this page.
            _ = cuffd_last_words(region.failureSignal, UInt64(region.address))
          }
        }
      }
      for thread in threads { #expect(thread.join()) }
    }
    #expect(result.errors.split(separator: "\n").filter { $0.contains("the cause") }.count == 120)
  }

  @Test("A runtime may end while the text of an error is made", arguments: Delivery.ofRegions)
  func endedMeanwhile(delivery: Delivery) async {
    let result = await #expect(processExitsWith: .signal(delivery.signal), observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String] in
      cts_end_after(120)
      let delivery = Delivery(rawValue: name)!
      let (isAsked, gate) = (Gate(), Gate())
      let isMade = Atomic<Bool>(false)
      let asker: TestThread
      do {
        let runtime = try FaultRuntime(
          FaultRuntimeConfiguration(delivery: delivery, closeTimeout: .milliseconds(50)))
        let region = try Self.region(delivery, in: runtime, isDeadly: false) {
          isAsked.open()
          gate.wait()
          isMade.store(true, ordering: .sequentiallyConsistent)
          return "of the first runtime"
        }
        #expect(region.access(2 * pageBytes) == .signal(region.failureSignal))
        let (signal, address) = (region.failureSignal, UInt64(region.address) + UInt64(2 * pageBytes))
        asker = TestThread { if !cuffd_last_words(signal, address) { exit(4) } }
        isAsked.wait()
        region.close()
      }
      let isMadeBefore = isMade.load(ordering: .sequentiallyConsistent)
      #expect(!isMadeBefore, "the end of the runtime has waited for the text")
      gate.open()
      #expect(asker.join())
      #expect(eventually { runtimeThreads(named: "fault-words").isEmpty })
      let region = try Self.region(delivery) { "of the second runtime" }
      _ = cts_load(region.address + UInt(2 * pageBytes))
    }
    let isFirstSaid = result.errors.contains("ClosureProvider: of the first runtime\n")
    #expect(isFirstSaid || result.errors.contains(Self.withoutText))
    #expect(result.errors.contains("ClosureProvider: of the second runtime\n"))
  }

  @Test("Where a text is never made, the thread of another runtime makes the next one", arguments: Delivery.ofRegions)
  func otherWriter(delivery: Delivery) async {
    let result = await #expect(processExitsWith: .signal(delivery.signal), observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String] in
      cts_end_after(120)
      let delivery = Delivery(rawValue: name)!
      let gate = Gate()
      let runtimes = try (0..<2).map { _ in try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery)) }
      let stuck = try Self.region(delivery, in: runtimes[0], isDeadly: false) {
        gate.wait()
        return "never made"
      }
      #expect(stuck.access(2 * pageBytes) == .signal(stuck.failureSignal))
      #expect(cuffd_last_words(stuck.failureSignal, UInt64(stuck.address) + UInt64(2 * pageBytes)))
      let region = try Self.region(delivery, in: runtimes[1]) { "the cause" }
      _ = cts_load(region.address + UInt(2 * pageBytes))
    }
    #expect(result.errors.contains(Self.withoutText))
    #expect(result.errors.contains("ClosureProvider: the cause\n"))
  }

  @Test("A runtime has the thread from its first region on, and only where failures are explained")
  func thread() async {
    await #expect(processExitsWith: .success) {
      for delivery in Delivery.ofRegions {
        for explains in [false, true] {
          do {
            let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery, explainsFailures: explains))
            #expect(runtimeThreads(named: "fault-words").isEmpty)
            let regions = try (0..<2).map { _ in try runtime.map(ZeroProvider(), byteCount: pageBytes) }
            #expect(runtimeThreads(named: "fault-words").count == (explains ? 1 : 0))
            for region in regions { region.close() }
          }
          // The kernel removes a thread from its list some time after it can be joined.
          #expect(eventually { runtimeThreads(named: "fault-words").isEmpty })
        }
      }
    }
  }
}
