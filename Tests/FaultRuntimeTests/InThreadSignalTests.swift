import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("The signal of a fault that the faulting thread answers itself", .timeLimit(.minutes(6)))
struct InThreadSignalTests {
  private func runtime(_ delivery: Delivery) throws -> FaultRuntime {
    try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
  }

  // MARK: The signal

  @Test("errno is kept", arguments: Delivery.inFaultingThread)
  func errnoIsKept(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let region = try runtime.map(
      ClosureProvider(permissions: .inSignalHandler) { request, page in
        errno = EDOM
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: 1)
    #expect(cts_errno_after_read(region.address, 12345) == 12345)
    #expect(runtime.statistics.faults == 1)
  }

  @Test("While a fault is answered other signals wait, and faults do not", arguments: Delivery.inFaultingThread)
  func signalMask(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let waiting = Monitor<[CInt]>([])
    let region = try runtime.map(
      ClosureProvider(permissions: .inSignalHandler) { request, page in
        var mask = sigset_t()
        unsafe pthread_sigmask(SIG_BLOCK, nil, &mask)
        let blocked = [SIGUSR1, SIGTERM, SIGALRM, SIGBUS, SIGSEGV].filter { unsafe sigismember(&mask, $0) == 1 }
        waiting.withLock { $0 = blocked }
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: 1)
    #expect(region.access(0) == .byte(1))
    #expect(waiting.withLock { $0 } == [SIGUSR1, SIGTERM, SIGALRM])
  }

  @Test(
    "The handler that was there before gets the mask and the flags that it asked for",
    arguments: Delivery.inFaultingThread)
  func flagsOfPredecessor(delivery: Delivery) async {
    for kind in [CTS_PLAIN, CTS_NODEFER, CTS_RESETHAND] {
      await #expect(processExitsWith: kind == CTS_RESETHAND ? .signal(delivery.signal) : .success) {
        [number = kind.rawValue as UInt32, name = delivery.rawValue as String] in
        let delivery = Delivery(rawValue: name)!
        #expect(cts_take_as(delivery.signal, cts_taker(rawValue: number), SIGUSR1) == 0)
        let region = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery)).map(
          ZeroProvider(), byteCount: pageBytes)
        #expect(region.access(0) == .byte(0))
        #expect(read(cts_foreign_page(delivery.signal)) == .signal(100 + delivery.signal))
        #expect(cts_was_blocked(SIGUSR1) == 1)
        #expect(cts_was_blocked(delivery.signal) == (cts_taker(rawValue: number) == CTS_NODEFER ? 0 : 1))
        // With SA_RESETHAND, the handler is gone after the first signal.
        #expect(read(cts_foreign_page(delivery.signal)) == .signal(100 + delivery.signal))
      }
    }
  }

  @Test("Staging memory is used again, and never by two at a time")
  func stagingPool() throws {
    let pool = try StagingPool()
    let slots = Monitor<[UInt]>([])
    // The thread stays on one CPU, because each CPU has slots of its own.
    let thread = TestThread {
      #expect(cts_run_on_cpu(cuffd_current_cpu()) == 0)
      for _ in 0..<200 {
        guard let outer = try? unsafe pool.borrow(pageBytes), let inner = try? unsafe pool.borrow(pageBytes) else {
          return
        }
        let addresses = unsafe [outer, inner].map { unsafe UInt(bitPattern: $0.bytes.baseAddress) }
        slots.withLock { $0 += addresses }
        unsafe pool.giveBack(inner)
        unsafe pool.giveBack(outer)
      }
    }
    #expect(thread.join())
    #expect(Set(slots.withLock { $0 }).count == 2)
  }

  @Test("A touch while the region is being closed fails, and asks nobody", arguments: Delivery.inFaultingThread)
  func touchWhileClosing(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let asked = Requests()
    let region = try runtime.map(
      ClosureProvider(permissions: .inSignalHandler) { request, page in
        asked.add(request)
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: 2 * pageBytes)
    #expect(region.access(0) == .byte(1))
    let address = region.address
    #expect(region.core.beginClosing())
    #expect(read(address + UInt(pageBytes)) == .signal(delivery.signal))
    #expect(read(address) == .byte(1))
    #expect(region.failures.first?.cause as? ResolutionError == .regionClosed)
    #expect(asked.all.count == 1)
    region.server.close(region.core)
    #expect(read(address) == .signal(SIGSEGV))
  }

  @Test(
    "A signal that is not about lazy memory reaches the handler that was there before",
    arguments: Delivery.inFaultingThread)
  func foreignSignal(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let region = try runtime.map(patternProvider(inFaultingThread: true), byteCount: pageBytes)
    let foreign = cts_foreign_page(delivery.signal)
    try #require(foreign != 0)
    for _ in 0..<3 { #expect(read(foreign) == .signal(delivery.signal)) }
    #expect(region.access(0) == .byte(expectedByte(0)))
    _ = cuffd_unmap(UInt64(foreign), pageBytes)
  }

  @Test(
    "A program that ignores the signal still ignores one that was sent, and dies of its own",
    arguments: Delivery.inFaultingThread)
  func ignored(delivery: Delivery) async {
    await #expect(processExitsWith: .signal(delivery.signal)) {
      [name = delivery.rawValue as String] in
      let delivery = Delivery(rawValue: name)!
      signal(delivery.signal, SIG_IGN)
      let region = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery)).map(
        ZeroProvider(), byteCount: pageBytes)
      raise(delivery.signal)
      #expect(unsafe region.unsafeBytes[0] == 0)
      let foreign = cts_foreign_page(delivery.signal)
      _ = cts_errno_after_read(foreign, 0)
    }
  }

  @Test(
    "A program without a handler dies of a signal that was sent, and of one of its own",
    arguments: Delivery.inFaultingThread)
  func defaultAction(delivery: Delivery) async {
    await #expect(processExitsWith: .signal(delivery.signal)) {
      [name = delivery.rawValue as String] in
      let delivery = Delivery(rawValue: name)!
      signal(delivery.signal, SIG_DFL)
      let region = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery)).map(
        ZeroProvider(), byteCount: pageBytes)
      #expect(unsafe region.unsafeBytes[0] == 0)
      raise(delivery.signal)
    }
    await #expect(processExitsWith: .signal(delivery.signal)) {
      [name = delivery.rawValue as String] in
      let delivery = Delivery(rawValue: name)!
      signal(delivery.signal, SIG_DFL)
      let region = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery)).map(
        ZeroProvider(), byteCount: pageBytes)
      #expect(unsafe region.unsafeBytes[0] == 0)
      _ = cts_errno_after_read(cts_foreign_page(delivery.signal), 0)
    }
  }

  @Test("A handler without siginfo is called as well", arguments: Delivery.inFaultingThread)
  func plainHandler(delivery: Delivery) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String] in
      let delivery = Delivery(rawValue: name)!
      #expect(cts_take(delivery.signal, 0, 0) == 0)
      let region = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery)).map(
        ZeroProvider(), byteCount: pageBytes)
      #expect(region.access(0) == .byte(0))
      #expect(cts_taken_count() == 0)
      #expect(read(cts_foreign_page(delivery.signal)) == .signal(100 + delivery.signal))
      #expect(cts_taken_count() == 1)
    }
  }

  @Test(
    "Somebody who takes the signal later and passes it on leaves everything working, without going round in circles",
    arguments: Delivery.inFaultingThread)
  func laterHandlerThatChains(delivery: Delivery) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String] in
      let delivery = Delivery(rawValue: name)!
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
      let first = try runtime.map(ZeroProvider(), byteCount: pageBytes)
      #expect(cts_take(delivery.signal, 1, 1) == 0)
      #expect(first.access(0) == .byte(0))
      #expect(cts_taken_count() == 1)
      // The next map puts the library's handler first again, in front of the other one, which still calls the
      // library's.
      let second = try runtime.map(ZeroProvider(), byteCount: pageBytes)
      #expect(second.access(0) == .byte(0))
      #expect(cts_taken_count() == 1)
      // The handlers run in this order: the library's, the other one, the library's again, and then the oldest one,
      // which is the test's own.
      #expect(read(cts_foreign_page(delivery.signal)) == .signal(delivery.signal))
      #expect(cts_taken_count() == 2)
      #expect(read(cts_foreign_page(delivery.signal)) == .signal(delivery.signal))
      #expect(cts_taken_count() == 3)
    }
  }

  @Test("Somebody who takes the signal and keeps it loses it at the next map", arguments: Delivery.inFaultingThread)
  func laterHandlerThatKeeps(delivery: Delivery) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String] in
      let delivery = Delivery(rawValue: name)!
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
      _ = try runtime.map(ZeroProvider(), byteCount: pageBytes)
      for _ in 0..<40 {
        #expect(cts_take(delivery.signal, 0, 1) == 0)
        let region = try runtime.map(ZeroProvider(), byteCount: pageBytes)
        #expect(region.access(0) == .byte(0))
      }
      #expect(cts_taken_count() == 0)
      #expect(read(cts_foreign_page(delivery.signal)) == .signal(100 + delivery.signal))
    }
  }

  // A sanitizer runs on the stack of its thread, and its own fault there may come while it holds one of its locks, for
  // which the signal handler then waits.
  @Test(
    "A stack may be lazy, where the thread has another one for signals",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: Delivery.inFaultingThread)
  func lazyStack(delivery: Delivery) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String] in
      let delivery = Delivery(rawValue: name)!
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
      let stack = try runtime.map(ZeroProvider(), byteCount: 256 << 10)
      #expect(cts_on_lazy_stack(stack.address, stack.byteCount) == 42)
      #expect(runtime.statistics.faults >= 1)
    }
  }

  /// Calls `body` with the stack deeper by at least `levels` frames.
  @inline(never)
  private static func deep(_ levels: Int, _ body: () -> Access) -> Access {
    guard levels > 0 else { return body() }
    return withExtendedLifetime(InlineArray<64, Int>(repeating: levels)) { _ in deep(levels - 1, body) }
  }

  private static func callSanitizer(_ name: String) {
    guard let function = unsafe dlsym(nil, name) else { return }
    unsafe unsafeBitCast(function, to: (@convention(c) () -> Void).self)()
  }

  @Test(
    "A handler that jumped out of a provider leaves nothing behind that a later fault is taken for",
    arguments: Delivery.inFaultingThread)
  func jumpedOut(delivery: Delivery) throws {
    // What the fault held when the handler jumped out of it is never released. This is the cost of a jump, and the
    // leak sanitizer must not report it.
    Self.callSanitizer("__lsan_disable")
    defer { Self.callSanitizer("__lsan_enable") }
    let runtime = try runtime(delivery)
    let place = Monitor<UInt>(0)
    let bad = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: .inSignalHandler) { _, _ in throw Refused() },
      byteCount: pageBytes)
    place.withLock { $0 = bad.address }
    let left = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: .inSignalHandler) { request, page in
        // The read is not a checked one. The handler of its signal jumps over this provider.
        let byte = unsafe UnsafePointer<UInt8>(bitPattern: place.withLock { $0 })!.pointee
        page.append(repeating: byte, count: request.byteCount)
        return .filled
      }, byteCount: pageBytes)
    let good = try runtime.map(patternProvider(inFaultingThread: true), byteCount: pageBytes)
    let thread = TestThread {
      #expect(Self.deep(20) { left.access(0) } == .signal(delivery.signal))
      #expect(Self.deep(10) { good.access(0) } == .byte(expectedByte(0)))
      #expect(unsafe madvise(UnsafeMutableRawPointer(bitPattern: good.address), pageBytes, MADV_DONTNEED) == 0)
      #expect(Self.deep(40) { good.access(0) } == .byte(expectedByte(0)))
    }
    #expect(thread.join())
    #expect(good.failures.isEmpty)
  }

  // ThreadSanitizer permits no thread in a child of a process with threads.
  @Test(
    "A child's runtime serves its regions where its parent had some",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: Delivery.inFaultingThread)
  func childOfItsOwn(delivery: Delivery) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String] in
      let delivery = Delivery(rawValue: name)!
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
      let regions = try (0..<16).map { _ in
        try runtime.map(patternProvider(inFaultingThread: true), byteCount: 1 << 30)
      }
      for region in regions { #expect(region.access(0) == .byte(expectedByte(0))) }
      let result = unsafe cts_forked(
        { context in
          let delivery: Delivery = UInt(bitPattern: context) == 1 ? .sigbus : .sigsegv
          cts_end_after(20)
          guard let runtime = try? FaultRuntime(FaultRuntimeConfiguration(delivery: delivery)) else { return 1 }
          for _ in 0..<16 {
            guard
              let region = try? runtime.map(
                patternProvider(seed: 1, inFaultingThread: true), byteCount: 1 << 30)
            else { return 2 }
            for offset in stride(from: 0, to: 1 << 30, by: 1 << 26) {
              guard region.access(offset) == .byte(expectedByte(offset, seed: 1)) else { return 3 }
            }
            // The object is kept, so that the region occupies its addresses until the child ends.
            _ = unsafe Unmanaged.passRetained(region)
          }
          return 0
        }, UnsafeMutableRawPointer(bitPattern: delivery == .sigbus ? 1 : 2)!)
      #expect(result == 0)
    }
  }
}
