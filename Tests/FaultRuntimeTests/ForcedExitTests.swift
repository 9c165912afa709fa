import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("A thread may be forced out of a fault", .timeLimit(.minutes(6)))
struct ForcedExitTests {
  /// The ways in which a fault is answered, and whether the provider may run on the faulting thread.
  enum Way: String, CaseIterable {
    case handler, pool, sigbus, sigsegv, helper

    var delivery: Delivery {
      switch self {
      case .handler, .pool: .eventLoop
      case .sigbus: .sigbus
      case .sigsegv, .helper: .sigsegv
      }
    }

    var permissions: ProviderPermissions {
      switch self {
      case .handler: .onHandler
      case .pool, .helper: .standard
      case .sigbus, .sigsegv: .inMemory
      }
    }

    func runtime() throws -> FaultRuntime { try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery)) }

    var provider: ClosureProvider {
      ClosureProvider(requestSize: .singlePage, permissions: permissions) { request, page in
        page.appendExpected(request)
        return .filled
      }
    }
  }

  // A sanitizer has locks of its own, and a thread may be cancelled while it has one of them.
  @Test(
    "A thread that is cancelled at any instruction leaves no lock behind",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: Way.allCases)
  func cancelled(way: Way) throws {
    let runtime = try way.runtime()
    var read = 0
    for round in 0..<300 {
      let region = try runtime.map(way.provider, byteCount: 64 * pageBytes)
      let pages = unsafe cts_cancel_walker(cts_start_walker(region.address, region.byteCount, true), round % 60)
      // Who joins the thread is told that it was cancelled.
      if pages >= 0 { read += pages } else { Issue.record("the thread ended as if it had returned") }
      region.close()
    }
    #expect(read > 0)
    #expect(runtime.regionCount == 0)
    let region = try runtime.map(way.provider, byteCount: 64 * pageBytes)
    #expect(mismatches(in: region).isEmpty)
  }

  @Test("A plain load is no cancellation point, whatever the provider does", .serialized, arguments: Way.allCases)
  func noCancellationPoint(way: Way) throws {
    let file = try TemporaryFile(bytes: expectedBytes(0..<(32 * pageBytes)))
    let runtime = try way.runtime()
    for _ in 0..<20 {
      let region = try runtime.map(try FileProvider(file.path))
      // The cancellation waits before the first touch.
      #expect(unsafe cts_cancel_walker(cts_start_walker(region.address, region.byteCount, false), 0) == 32)
      region.close()
    }
    #expect(runtime.regionCount == 0)
    // A thread of the pool may still be about to let go of the last region.
    #expect(eventually { descriptors(of: file.path) == 0 })
  }

  /// What a thread of the program calls.
  enum Call: String, CaseIterable {
    case runtime, map, prefetch, read, write, resident, bytes, pieces, close, file, report

    /// Calls it, with a closure that is a cancellation point where there is one.
    func make(_ runtime: FaultRuntime, _ region: LazyRegion, _ way: Way) throws {
      switch self {
      case .runtime: _ = try way.runtime()
      case .map: _ = try runtime.map(way.provider, byteCount: pageBytes)
      case .prefetch: try region.prefetch(0..<(8 * pageBytes))
      case .read: _ = try region.read(0..<(8 * pageBytes))
      case .write: try region.write([1, 2, 3], at: 5)
      case .resident: try region.withResident(0..<5) { _ in pthread_testcancel() }
      case .bytes: region.withBytes { _ in pthread_testcancel() }
      case .pieces: try region.forEachPiece(of: 0..<(8 * pageBytes)) { _, _ in pthread_testcancel() }
      case .close: region.close()
      case .file: _ = try FileProvider("/proc/self/exe")
      case .report: _ = HostReport()
      }
    }
  }

  @Test(
    "A call of the library is no cancellation point, and neither is a closure that it calls, nor a provider",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: Call.allCases, Way.allCases)
  func calls(call: Call, way: Way) throws {
    let file = try TemporaryFile(bytes: expectedBytes(0..<(8 * pageBytes)))
    do {
      let runtime = try way.runtime()
      let region = try runtime.map(
        try FileProvider(file.path), options: RegionOptions(access: .readWrite))
      let hasReturned = Atomic<Bool>(false)
      let thread = TestThread {
        // The cancellation waits for the first cancellation point.
        pthread_cancel(pthread_self())
        do { try call.make(runtime, region, way) } catch { Issue.record(error) }
        hasReturned.store(true, ordering: .relaxed)
        // The thread is to end as any other.
        var state: CInt = 0
        unsafe pthread_setcancelstate(CInt(PTHREAD_CANCEL_DISABLE), &state)
      }
      #expect(thread.join())
      let returned = hasReturned.load(ordering: .relaxed)
      #expect(returned)
      // A pin that was left behind would hold this up.
      region.close()
      #expect(region.core.pins.count == 0)
      #expect(runtime.regionCount == 0)
    }
    #expect(eventually { descriptors(of: file.path) == 0 })
  }

  @Test(
    "A provider that ends a thread of the runtime ends the process with a line, and nobody waits for the page",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: [Way.handler, .pool, .helper], [true, false])
  func threadEnds(way: Way, isCancelled: Bool) async {
    let result = await #expect(processExitsWith: .signal(SIGABRT), observing: [\.standardErrorContent]) {
      [name = way.rawValue as String, isCancelled = isCancelled as Bool] in
      signal(SIGABRT, SIG_DFL)
      cts_end_after(60)
      let way = Way(rawValue: name)!
      let runtime = try way.runtime()
      let region = try runtime.map(
        ClosureProvider(requestSize: .singlePage, permissions: way.permissions) { _, _ in
          if isCancelled {
            pthread_cancel(pthread_self())
            pthread_testcancel()
          }
          pthread_exit(nil)
        }, byteCount: pageBytes)
      _ = region.access(0)
    }
    #expect(result.errors.contains("such as a provider, has ended the thread that called it"))
  }

  @Test(
    "What a fault held whose handler was left by a jump is let go at the thread's next fault, and at the thread's end",
    // A jump out of nested handlers leaves the sanitizer's own state behind.
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: Delivery.inFaultingThread)
  func jumped(delivery: Delivery) throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
    let bad = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: .inSignalHandler) { _, _ in throw Refused() },
      byteCount: pageBytes)
    let badAddress = bad.address
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: .inSignalHandler) { request, page in
        // The handler of the signal of this read jumps over the provider.
        page.append(repeating: cts_load(badAddress), count: request.byteCount)
        return .filled
      }, byteCount: 256 * pageBytes)
    let staging = (region.server as? SigbusServer)?.staging ?? (region.server as? SigsegvServer)?.staging
    let pool = try #require(staging)
    let users = try #require(region.core.usersInTable)
    let thread = Later<[Int]> {
      (0..<256).map { page in
        #expect(region.access(page * pageBytes) == .signal(delivery.signal))
        return pool.slotsInUse
      }
    }
    // Only the latest answer still holds something.
    #expect(try thread.result().allSatisfy { $0 <= 1 })
    #expect(pool.slotsInUse == 0)
    #expect(region.core.usersInTable == users)
  }

  @Test(
    "After a jump out of a fault, a call of the library is no cancellation point, and the thread can be cancelled",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: Delivery.inFaultingThread)
  func callAfterJump(delivery: Delivery) throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
    let left = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: .inSignalHandler) { _, _ in
        cts_jump_back()
        return .zero
      }, byteCount: 2 * pageBytes)
    let region = try runtime.map(patternProvider(inFaultingThread: true), byteCount: 2 * pageBytes)
    @Sendable func state() -> CInt {
      var state: CInt = 0
      unsafe pthread_setcancelstate(CInt(PTHREAD_CANCEL_DISABLE), &state)
      pthread_setcancelstate(state, nil)
      return state
    }
    let states = Later<[CInt]> {
      var states = [state()]
      #expect(cts_load_until_jump(left.address) == -1)
      region.withBytes { bytes in
        #expect(bytes.load(fromByteOffset: 0, as: UInt8.self) == expectedByte(0))
        states.append(state())
      }
      states.append(state())
      #expect(cts_load_until_jump(left.address + UInt(pageBytes)) == -1)
      left.close()
      states.append(state())
      return states
    }
    let able = CInt(PTHREAD_CANCEL_ENABLE)
    #expect(try states.result() == [able, CInt(PTHREAD_CANCEL_DISABLE), able, able])
  }

  // ThreadSanitizer makes a child of fork(2) in place of one of vfork(2).
  @Test(
    "A fault in a child of vfork is answered, because it uses the same memory",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: Way.allCases)
  func vforked(way: Way) async {
    await #expect(processExitsWith: .success) { [name = way.rawValue as String] in
      cts_end_after(30)
      let way = Way(rawValue: name)!
      let runtime = try way.runtime()
      let region = try runtime.map(way.provider, byteCount: 4 * pageBytes)
      #expect(cts_read_in_vfork(region.address) == CInt(expectedByte(0)))
      #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
      region.close()
    }
  }

  private static func isBlocked(_ number: CInt) -> Bool {
    var mask = sigset_t()
    unsafe pthread_sigmask(SIG_BLOCK, nil, &mask)
    return unsafe sigismember(&mask, number) == 1
  }

  @Test("While a thread of the program has a lock, it gets no signals and cannot be cancelled")
  func locksHoldSignals() throws {
    let thread = Later<[Bool]> {
      var states: [Bool] = [Self.isBlocked(SIGUSR1)]
      let lock = Monitor(0)
      lock.withLock { _ in
        var before: CInt = 0
        unsafe pthread_setcancelstate(CInt(PTHREAD_CANCEL_DISABLE), &before)
        states += [Self.isBlocked(SIGUSR1), Self.isBlocked(SIGSEGV), before == CInt(PTHREAD_CANCEL_DISABLE)]
      }
      _ = lock.wait(nanoseconds: 1) { _ -> Bool? in
        states.append(Self.isBlocked(SIGUSR1))
        return nil
      }
      states.append(Self.isBlocked(SIGUSR1))
      return states
    }
    let states = try thread.result()
    // The thread of the test blocks what the thread that runs the test blocks.
    #expect(Array(states[1..<4]) == [true, false, true])
    #expect(states[4])
    #expect(states.first == states.last)
  }

  private static let announced = OneShotEvent()

  // ThreadSanitizer puts signals off until the thread calls a function that it knows.
  @Test(
    "A signal handler may announce the event that its thread waits for",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func eventInHandler() async {
    await #expect(processExitsWith: .success) {
      cts_end_after(60)
      signal(SIGUSR1) { _ in Self.announced.signal() }
      let number = Monitor<pthread_t>(0)
      let thread = Later<Bool> {
        cts_unblock_signals()
        number.withLock { $0 = pthread_self() }
        return Self.announced.wait(nanoseconds: 50_000_000_000)
      }
      #expect(eventually { number.withLock { $0 } != 0 })
      // The signal is sent again and again, because the thread may not wait yet when the first one comes.
      while !thread.isDone {
        pthread_kill(number.withLock { $0 }, SIGUSR1)
        sched_yield()
      }
      #expect(thread.join())
    }
  }
}
