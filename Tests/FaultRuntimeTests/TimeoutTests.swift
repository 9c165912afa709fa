import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite(
  "Providers that do not return in time", .timeLimit(.minutes(6)),
  .enabled(if: Host.features.contains(.poison), SkipReason.poison))
struct TimeoutTests {
  private let failures = Log<PageFailure>()

  private func runtime(threads: Int = 2, patience: UInt64 = 100_000_000) throws -> FaultRuntime {
    var configuration = FaultRuntimeConfiguration(
      providerThreads: threads, onFailure: { [failures] in failures.add($0) })
    configuration.streamDistance = 0
    configuration.providerPatience = patience
    return try FaultRuntime(configuration)
  }

  /// A provider that does not answer for some pages until the gate opens. It declares that it does not block and that
  /// it may run in the faulting thread. Neither matters for a region with a timeout.
  private func provider(
    stuckAt stuck: Set<Int>, until gate: Gate, largest: Int = 1, entered: Requests = Requests()
  ) -> ClosureProvider {
    ClosureProvider(
      requestSize: RequestSize(preferred: largest * pageBytes, largest: largest * pageBytes), permissions: .inMemory
    ) { request, page in
      entered.add(request)
      if request.pages.contains(where: stuck.contains) { gate.wait() }
      page.appendExpected(request)
      return .filled
    }
  }

  /// Long enough for pages that do come, even on a busy machine under a sanitizer.
  private static let timeout = Duration.milliseconds(500)
  private let options = RegionOptions(name: "slow", timeout: Self.timeout)

  @Test("The page fails, every other works, and the late answer is dropped")
  func lateAnswer() throws {
    let gate = Gate()
    let runtime = try runtime()
    let region = try runtime.map(provider(stuckAt: [1], until: gate), byteCount: 4 * pageBytes, options: options)
    #expect(region.delivery == .eventLoop)
    #expect(region.access(pageBytes + 3) == .signal(SIGBUS))
    #expect(comes(0..<pageBytes, of: region))
    #expect(comes((2 * pageBytes)..<(4 * pageBytes), of: region))
    let failure = failures.all.filter { $0.offset == pageBytes }
    #expect(failure.count == 1)
    #expect(failure.first?.cause as? ResolutionError == .timeoutExceeded(Self.timeout))
    #expect(region.failure(at: pageBytes)?.description.contains("did not answer within 0.5 seconds") == true)
    let late = runtime.statistics.lateAnswers
    gate.open()
    #expect(eventually { runtime.statistics.lateAnswers > late })
    #expect(!region.isResident(pageBytes))
    #expect(region.access(pageBytes) == .signal(SIGBUS))
    // The provider answers again, so the page can be cured.
    #expect(comes(of: region))
  }

  @Test("However many threads wait, for however many pages of a request, all are released")
  func manyWaiters() throws {
    let gate = Gate()
    let runtime = try runtime()
    let region = try runtime.map(
      provider(stuckAt: [5], until: gate, largest: 8), byteCount: 8 * pageBytes, options: options)
    let threads = (0..<8).map { page in TestThread { #expect(region.access(page * pageBytes) == .signal(SIGBUS)) } }
    for thread in threads { #expect(thread.join()) }
    gate.open()
  }

  @Test("Stuck calls do not use up the pool, for their region or another's")
  func pool() throws {
    let gate = Gate()
    let runtime = try runtime(threads: 2)
    let region = try runtime.map(
      provider(stuckAt: Set(0..<5), until: gate), byteCount: 24 * pageBytes, options: options)
    let other = try runtime.map(patternProvider(mayBlock: true), byteCount: 8 * pageBytes)
    for page in 0..<5 { #expect(region.access(page * pageBytes) == .signal(SIGBUS)) }
    #expect(comes((5 * pageBytes)..<(24 * pageBytes), of: region))
    #expect(mismatches(in: other) == [])
    gate.open()
    #expect(eventually { runtime.statistics.lateAnswers >= 1 })
  }

  @Test("An answer that comes while its failure is being told is dropped, and so are later ones")
  func answersWhileFailing() throws {
    let first = Gate()
    let told = Gate()
    let second = Gate()
    let runtime = try FaultRuntime(
      FaultRuntimeConfiguration(
        providerThreads: 1,
        onFailure: { failure in
          guard failure.offset == 0 else { return }
          first.open()
          told.wait()
        }))
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage) { request, page in
        if request.offset == 0 { first.wait() }
        if request.offset == pageBytes { second.wait() }
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 8 * pageBytes, options: RegionOptions(advice: .random, timeout: .milliseconds(100)))
    let waiter = TestThread { #expect(region.access(0) == .signal(SIGBUS)) }
    #expect(eventually { runtime.statistics.lateAnswers == 1 })
    // The only thread of the pool has continued with other work.
    #expect(comes((2 * pageBytes)..<(3 * pageBytes), of: region))
    told.open()
    #expect(waiter.join())
    #expect(region.access(pageBytes) == .signal(SIGBUS))
    #expect(comes((3 * pageBytes)..<(6 * pageBytes), of: region))
    let late = runtime.statistics.lateAnswers
    second.open()
    #expect(eventually { runtime.statistics.lateAnswers > late || region.isResident(pageBytes) })
    #expect(!region.isResident(pageBytes))
    #expect(region.access(pageBytes) == .signal(SIGBUS))
  }

  @Test("However many calls have returned too late, the pool keeps its threads")
  func manyLateAnswers() throws {
    let gates = (0..<80).map { _ in Gate() }
    let runtime = try runtime(threads: 1)
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage) { request, page in
        gates[request.offset / pageBytes].wait()
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: gates.count * pageBytes, options: RegionOptions(advice: .random, timeout: .milliseconds(4)))
    for (page, gate) in gates.enumerated() {
      #expect(region.access(page * pageBytes) == .signal(SIGBUS))
      gate.open()
    }
    let other = try runtime.map(patternProvider(mayBlock: true), byteCount: pageBytes)
    let reader = TestThread { #expect(other.access(0) == .byte(expectedByte(0))) }
    #expect(reader.join())
  }

  @Test("Requests that wait for a thread for so long fail as well")
  func queued() throws {
    let gate = Gate()
    // The pool starts no other thread for the sake of the second region.
    let runtime = try runtime(threads: 1, patience: .max)
    // This region has no timeout, so its call occupies the only thread.
    let stuck = try runtime.map(
      ClosureProvider { request, page in
        gate.wait()
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: pageBytes)
    let holder = TestThread { #expect(stuck.access(0) == .byte(1)) }
    #expect(eventually { waiters(on: stuck.descriptorNumber).all == 1 })
    let asked = Requests()
    let region = try runtime.map(
      provider(stuckAt: [], until: gate, entered: asked), byteCount: pageBytes, options: options)
    #expect(eventually { runtime.statistics.requests == 1 })
    #expect(region.access(0) == .signal(SIGBUS))
    gate.open()
    #expect(holder.join())
    #expect(asked.all == [])
    try region.retry(0..<pageBytes)
    #expect(region.access(0) == .byte(expectedByte(0)))
  }

  @Test("The watchdog looks as often as the shortest timeout of the open regions wants")
  func period() throws {
    let watchdog = Watchdog()
    defer { watchdog.stop(nanoseconds: 5_000_000_000) }
    let long = watchdog.period
    try watchdog.watch(timeout: 0)
    #expect(watchdog.period == long)
    try watchdog.watch(timeout: 80_000_000)
    try watchdog.watch(timeout: 8_000_000)
    try watchdog.watch(timeout: 8_000_000)
    #expect(watchdog.period == 2_000_000)
    watchdog.regionEnded(timeout: 8_000_000)
    #expect(watchdog.period == 2_000_000)
    watchdog.regionEnded(timeout: 8_000_000)
    #expect(watchdog.period == 20_000_000)
    watchdog.regionEnded(timeout: 0)
    watchdog.regionEnded(timeout: 80_000_000)
    #expect(watchdog.period == long)
  }

  @Test("Attempts and their waits count", arguments: [Duration.milliseconds(5), .seconds(3600)])
  func attempts(backoff: Duration) throws {
    let runtime = try runtime()
    var options = options
    options.retry = RetryPolicy(attempts: .max, firstBackoff: backoff, largestBackoff: backoff)
    let region = try runtime.map(
      ClosureProvider { _, _ in throw Refused() }, byteCount: pageBytes, options: options)
    #expect(region.access(0) == .signal(SIGBUS))
    #expect(failures.all.map { $0.cause as? ResolutionError } == [.timeoutExceeded(Self.timeout)])
  }

  @Test("A prefetch fails with the same error, and a fault that waits for it too", arguments: [1, 4])
  func prefetch(largest: Int) throws {
    let gate = Gate()
    let runtime = try runtime()
    let region = try runtime.map(
      provider(stuckAt: [2], until: gate, largest: largest), byteCount: 8 * pageBytes, options: options)
    let toucher = TestThread { #expect(region.access(2 * pageBytes) == .signal(SIGBUS)) }
    let error = #expect(throws: FaultRuntimeError.self) { try region.populate() }
    #expect(error?.code == .pageFailed)
    #expect(error?.failure?.cause as? ResolutionError == .timeoutExceeded(Self.timeout))
    #expect(toucher.join())
    gate.open()
    #expect(eventually { runtime.statistics.lateAnswers >= 1 })
    #expect(eventually { (try? region.populate()) != nil })
    #expect(mismatches(in: region) == [])
  }

  @Test("What a prefetch is told too late is not put in place")
  func latePrefetch() throws {
    let gate = Gate()
    let runtime = try runtime()
    let region = try runtime.map(
      provider(stuckAt: [2], until: gate), byteCount: 4 * pageBytes, options: options)
    #expect(throws: FaultRuntimeError.self) { try region.prefetch((2 * pageBytes)..<(3 * pageBytes)) }
    gate.open()
    #expect(eventually { runtime.statistics.lateAnswers == 1 })
    #expect(cuffd_is_resident(UInt64(region.address) + UInt64(2 * pageBytes)) == 0)
    #expect(comes(of: region))
  }

  @Test("What a copy is told too late is not written to memory that its caller has back")
  func latePeek() throws {
    let gate = Gate()
    let region = try runtime().map(
      provider(stuckAt: [0], until: gate), byteCount: pageBytes, options: options)
    let buffer = Scratch(pages: 1)
    buffer.fill(7)
    let job = unsafe PeekJob(
      region.core, 0..<pageBytes,
      into: UnsafeMutableRawBufferPointer(
        start: UnsafeMutableRawPointer(bitPattern: buffer.range.start), count: pageBytes))
    let late = TestThread {
      var staging = StagingBuffer()
      job.run(&staging, forbidden: nil)
    }
    let hasAnswered = job.wait()
    #expect(!hasAnswered)
    gate.open()
    #expect(late.join())
    for offset in 0..<pageBytes { #expect(read(buffer.range.start + UInt(offset)) == .byte(7)) }
  }

  @Test("Huge pages that are assembled too late are not moved in")
  func hugePages() throws {
    let gate = Gate()
    let runtime = try runtime()
    let pages = (4 << 20) / pageBytes
    let region = try runtime.map(
      provider(stuckAt: [3], until: gate, largest: 8), byteCount: pages * pageBytes,
      options: options)
    #expect(throws: FaultRuntimeError.self) { try region.populate() }
    gate.open()
    #expect(eventually { runtime.statistics.lateAnswers >= 1 })
    for page in 0..<64 { #expect(!region.isResident(page * pageBytes)) }
    #expect(eventually { (try? region.populate()) != nil })
    #expect(mismatches(in: region) == [])
  }

  @Test("A prefetch that is given up names the first page that is missing, not one that was there")
  func firstMissing() throws {
    let gate = Gate()
    let region = try runtime().map(
      provider(stuckAt: [3], until: gate), byteCount: 8 * pageBytes, options: options)
    #expect(comes(0..<(3 * pageBytes), of: region))
    let error = #expect(throws: FaultRuntimeError.self) { try region.populate() }
    #expect(error?.failure?.offset == 3 * pageBytes)
    gate.open()
  }

  @Test("A prefetch that is given up when every page of its step has come goes on, and is no failure")
  func nothingMissing() throws {
    let region = try runtime().map(
      patternProvider(mayBlock: true), byteCount: 4 * pageBytes, options: RegionOptions(timeout: .seconds(5)))
    #expect(comes(of: region))
    let job = PoolPrefetch(region.core, 0..<(4 * pageBytes))
    let goesOn = job.giveUp(.resolveTimedOut, at: 2 * pageBytes)
    let offset = job.offset
    #expect(goesOn)
    #expect(offset == 2 * pageBytes)
    let goesOnFurther = job.giveUp(.resolveTimedOut, at: 4 * pageBytes)
    let hasFailed = job.failure != nil
    let isDone = job.done.wait(nanoseconds: 0)
    #expect(!goesOnFurther)
    #expect(!hasFailed)
    #expect(isDone)
  }

  @Test("Closing waits for nobody who has been given up, and the runtime ends while he is stuck")
  func closing() async {
    await #expect(processExitsWith: .success) {
      let gate = Gate()
      var runtime: FaultRuntime? = try FaultRuntime(FaultRuntimeConfiguration(closeTimeout: .seconds(3600)))
      var region: LazyRegion? = try runtime!.map(
        ClosureProvider { _, _ in
          gate.wait()
          return .zero
        }, byteCount: pageBytes, options: RegionOptions(timeout: .milliseconds(20)))
      #expect(region!.access(0) == .signal(SIGBUS))
      region!.close()
      region = nil
      runtime = nil
      gate.open()
    }
  }

  @Test(
    "The faulting thread cannot keep a timeout: auto avoids it, and asking for it is an error",
    arguments: Delivery.inFaultingThread)
  func delivery(delivery: Delivery) throws {
    let error = #expect(throws: FaultRuntimeError.self) {
      try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery)).map(
        ZeroProvider(), byteCount: 1, options: options)
    }
    #expect(error?.code == .providerForbidsDelivery)
    let choice = try runtime().deliveryChoice(for: ZeroProvider(), options: options)
    #expect(choice.delivery == .eventLoop)
    #expect(choice.reason.contains("timeout"))
  }

  @Test("A permit is withdrawn while the provider is asked, and not while its answer is put in place")
  func permit() throws {
    let permit = AnswerPermit()
    try permit.beginPlacing()
    #expect(!permit.withdraw())
    permit.ask()
    #expect(permit.withdraw())
    #expect(!permit.withdraw())
    #expect(throws: WithdrawnError.self) { try permit.beginPlacing() }
    permit.ask()
    #expect(permit.isWithdrawn)
  }
}
