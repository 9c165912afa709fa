import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

/// Requests that have taken longer than their region's timeout are withdrawn. The waiting threads are told, later
/// answers are not placed, and the page can be requested again.
@Suite(
  "Requests past their timeout", .timeLimit(.minutes(6)),
  .enabled(if: Host.has(.poison), SkipReason.poison))
struct OverdueTests {
  private let inFlight = RequestsInFlight()

  private func region(timeout: Duration?, pages: Int = 8) throws -> Region {
    try Region(
      testing: patternProvider(requestSize: RequestSize(preferred: 1, largest: 8 * pageBytes), mayBlock: true),
      byteCount: pages * pageBytes, options: RegionOptions(advice: .random, timeout: timeout))
  }

  /// Admits faults on neighbouring pages. Returns the requests that were made for them.
  @discardableResult
  private func admit(_ pages: Range<Int>, of region: Region) -> [PoolRequest] {
    var batch = FaultBatch(capacity: 8)
    for page in pages { batch.insert(PendingFault(page: region.address(of: page * pageBytes), isWrite: false)) }
    var run = FaultRun(region: region, fault: batch[0], index: 0)
    for index in 1..<batch.count { _ = run.absorb(batch[index]) }
    var made: [PoolRequest] = []
    inFlight.admit(
      run, batch, submit: { made.append($0) }, wake: { _ in Issue.record("woken") },
      resubmit: { _ in Issue.record("resubmitted") }, fail: { _, _ in Issue.record("deadlock") })
    return made
  }

  /// Waits until a request is overdue, and returns all that are.
  private func overdue() -> [RequestsInFlight.Overdue] {
    var found: [RequestsInFlight.Overdue] = []
    eventually {
      found = inFlight.withdrawOverdue()
      return !found.isEmpty
    }
    return found
  }

  @Test("Only what is older than its own region's timeout is taken back, with everything that waits for it")
  func which() throws {
    let short = try region(timeout: .nanoseconds(1))
    let long = try region(timeout: .seconds(3600))
    let endless = try region(timeout: nil)
    let others = admit(0..<2, of: long) + admit(0..<1, of: endless)
    let made = admit(2..<4, of: short)
    try #require(made.count == 1 && others.count == 2)
    let follower = PoolPrefetch(short, (3 * pageBytes)..<(4 * pageBytes))
    #expect(inFlight.claim(for: follower, from: 3 * pageBytes, to: 4 * pageBytes) == nil)
    let found = overdue()
    try #require(found.count == 1)
    #expect(found[0].request === made[0])
    #expect(found[0].region === short)
    #expect(found[0].pages == [2, 3].map { short.address(of: $0 * pageBytes) })
    #expect(found[0].followers.count == 1 && found[0].followers[0] === follower)
    #expect(found[0].job == nil)
    #expect(made[0].permit.isWithdrawn)
    #expect(others.allSatisfy { !$0.permit.isWithdrawn })
    #expect(inFlight.waitingPages(of: short) == 0)
    #expect(inFlight.waitingPages(of: long) == 2)
    #expect(inFlight.withdrawOverdue().isEmpty)
  }

  @Test("What was taken back can be asked for again, and its late end concerns nobody")
  func again() throws {
    let region = try region(timeout: .nanoseconds(1))
    let first = try #require(admit(2..<4, of: region).first)
    var waiting: [UInt] = []
    inFlight.take(first, waiting: &waiting)
    #expect(overdue().count == 1)
    let second = try #require(admit(2..<4, of: region).first)
    // The thread that works on the first request may still hold it.
    #expect(second !== first)
    #expect(!second.permit.isWithdrawn)
    #expect(throws: WithdrawnError.self) { try first.permit.beginPlacing() }
    inFlight.finish(
      first, filled: 0..<0, handled: 0, known: 2, wake: { _ in Issue.record("woken") },
      resubmit: { _ in Issue.record("resubmitted") })
    #expect(inFlight.waitingPages(of: region) == 2)
    #expect(inFlight.work(of: 0)?.range == (2 * pageBytes)..<(4 * pageBytes))
    // The withdrawn request is not reused for other pages either.
    let third = try #require(admit(6..<7, of: region).first)
    #expect(third !== first && third !== second)
  }

  @Test("What is being put in place is not taken back, however late it is")
  func placing() throws {
    let region = try region(timeout: .nanoseconds(1))
    let late = try #require(admit(0..<1, of: region).first)
    try late.permit.beginPlacing()
    let other = try #require(admit(4..<5, of: region).first)
    let found = overdue()
    #expect(found.count == 1 && found[0].request === other)
    #expect(inFlight.waitingPages(of: region) == 1)
    var woken: [UInt] = []
    inFlight.finish(
      late, filled: 0..<0, handled: 0, known: 1, wake: { woken.append($0) }, resubmit: { _ in })
    #expect(woken == [region.address(of: 0)])
    #expect(inFlight.waitingPages(of: region) == 0)
  }

  @Test("A prefetch that takes too long is taken back with its job, and its pages may be claimed by another")
  func job() throws {
    let region = try region(timeout: .nanoseconds(1))
    let job = PoolPrefetch(region, 0..<(4 * pageBytes))
    let request = try #require(inFlight.claim(for: job, from: 0, to: 4 * pageBytes))
    #expect(inFlight.claim(for: job, from: pageBytes, to: 4 * pageBytes) == nil)
    let found = overdue()
    try #require(found.count == 1)
    #expect(found[0].request === request && found[0].job === job)
    #expect(found[0].pages == [])
    #expect(found[0].followers.count == 1)
    let next = try #require(inFlight.claim(for: job, from: pageBytes, to: 4 * pageBytes))
    #expect(next !== request)
    #expect(next.start == pageBytes && next.end == 4 * pageBytes)
  }

  @Test("A thread that waits for a request learns that it was taken back, and waits for nobody who uses it later")
  func ticket() throws {
    let region = try region(timeout: .nanoseconds(1))
    let fault = PendingFault(page: region.address(of: 0), isWrite: false)
    var made: [PoolRequest] = []
    let run = FaultRun(region: region, fault: fault, index: 0)
    let first = try #require(inFlight.admit(fault, of: run, submit: { made.append($0) }, resubmit: { _ in }))
    let second = try #require(inFlight.admit(fault, of: run, submit: { made.append($0) }, resubmit: { _ in }))
    #expect(made.count == 1)
    #expect(!inFlight.wait(for: first, nanoseconds: 0))
    // The thread would wait longer than any test, so that only a notification can end the wait.
    let waiter = Later { [inFlight] in inFlight.wait(for: first, nanoseconds: .max) }
    #expect(overdue().count == 1)
    #expect(try waiter.result())
    #expect(inFlight.wait(for: second, nanoseconds: 0))
    let third = try #require(inFlight.admit(fault, of: run, submit: { made.append($0) }, resubmit: { _ in }))
    #expect(made.count == 2)
    #expect(!inFlight.wait(for: third, nanoseconds: 0))
    #expect(inFlight.wait(for: first, nanoseconds: 0))
  }

  /// Makes a runtime whose watchdog gives up overdue requests, with a provider that one thread at a time may call.
  private func serial(
    stuckAt stuck: Int, until gate: Gate, entered: Requests, timeout: Duration
  ) throws -> (runtime: FaultRuntime, region: LazyRegion) {
    var configuration = FaultRuntimeConfiguration(delivery: .eventLoop, handlerThreads: 1, providerThreads: 2)
    configuration.streamDistance = 0
    configuration.explainsFailures = false
    let runtime = try FaultRuntime(configuration)
    let provider = ClosureProvider(requestSize: .singlePage, permissions: []) { request, page in
      entered.add(request)
      if request.offset == stuck * pageBytes { gate.wait() }
      page.append(expectedBytes(request.range))
      return .filled
    }
    let region = try runtime.map(
      provider, byteCount: 8 * pageBytes, options: RegionOptions(advice: .random, timeout: timeout))
    return (runtime, region)
  }

  @Test("While the only request that a provider permits is stuck, faults and prefetches behind it fail in time")
  func behindStuck() throws {
    let gate = Gate()
    let entered = Requests()
    let (runtime, region) = try serial(stuckAt: 0, until: gate, entered: entered, timeout: .milliseconds(50))
    #expect(region.access(0) == .signal(region.failureSignal))
    let pages = pageBytes..<(4 * pageBytes)
    let prefetcher = Later { #expect(throws: FaultRuntimeError.self) { try region.prefetch(pages) } }
    let error = try prefetcher.result()
    #expect(error?.code == .pageFailed)
    #expect(error?.failure?.offset == pageBytes)
    #expect(error?.failure?.cause as? ResolutionError == .timeoutExceeded(.milliseconds(50)))
    #expect(region.access(5 * pageBytes) == .signal(region.failureSignal))
    // No other thread has called the provider meanwhile.
    #expect(entered.all.map(\.offset) == [0])
    gate.open()
    #expect(eventually { runtime.statistics.lateAnswers == 1 })
    #expect(!region.isResident(0))
    // The provider has returned, so it is called again.
    #expect(comes(of: region))
  }

  @Test("What waits behind the only request that a provider permits goes on when that one returns after all")
  func returnOfStuck() throws {
    let gate = Gate()
    let entered = Requests()
    // The timeout is so long that a request is not overdue because it waits for the gate.
    let (_, region) = try serial(stuckAt: 0, until: gate, entered: entered, timeout: .seconds(3600))
    let loop = try #require(region.eventLoop)
    let buffer = Scratch(pages: 1)
    let peek = unsafe PeekJob(
      region.core, 0..<pageBytes,
      into: UnsafeMutableRawBufferPointer(
        start: UnsafeMutableRawPointer(bitPattern: buffer.range.start), count: pageBytes))
    loop.pool.submit(.peek(peek, loop))
    #expect(eventually { entered.all.count == 1 })
    loop.pool.giveUp(peek)
    let job = PoolPrefetch(region.core, pageBytes..<(2 * pageBytes))
    loop.pool.submit(.prefetch(job, loop))
    let early = job.done.wait(nanoseconds: 0)
    #expect(!early)
    #expect(entered.all.count == 1)
    gate.open()
    let isDone = job.done.wait(nanoseconds: 30_000_000_000)
    #expect(isDone)
    #expect(region.isResident(pageBytes))
    // Only the waiting was given up, so the peek still has its bytes.
    #expect(peek.done.wait(nanoseconds: 30_000_000_000))
    #expect(read(buffer.range.start) == .byte(expectedByte(0)))
  }

  @Test("When a task ends for which two others had to wait, both begin: an idle thread takes the second one")
  func idleThreadsLookAgain() throws {
    let first = Gate()
    let both = Gate()
    let entered = Requests()
    let others = Requests()
    var configuration = FaultRuntimeConfiguration(delivery: .eventLoop, handlerThreads: 1, providerThreads: 2)
    configuration.streamDistance = 0
    let runtime = try FaultRuntime(configuration)
    let serial = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: []) { request, page in
        entered.add(request)
        if request.offset == 0 { first.wait() }
        // The second request of this region lasts until the other region's provider is called.
        if request.offset == pageBytes { both.wait() }
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 2 * pageBytes)
    let other = try runtime.map(
      ClosureProvider(requestSize: .singlePage) { request, page in
        others.add(request)
        both.open()
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: pageBytes)
    let loop = try #require(serial.eventLoop)
    // One thread is busy with a prefetch, and a second prefetch may not run beside it.
    let running = PoolPrefetch(serial.core, 0..<pageBytes)
    loop.pool.submit(.prefetch(running, loop))
    #expect(eventually { entered.all.count == 1 })
    // The peek waits for that prefetch because both are of the same region. The other prefetch waits because it would
    // be the second one.
    let buffer = Scratch(pages: 1)
    let peek = unsafe PeekJob(
      serial.core, pageBytes..<(2 * pageBytes),
      into: UnsafeMutableRawBufferPointer(
        start: UnsafeMutableRawPointer(bitPattern: buffer.range.start), count: pageBytes))
    loop.pool.submit(.peek(peek, loop))
    let waiting = PoolPrefetch(other.core, 0..<pageBytes)
    loop.pool.submit(.prefetch(waiting, loop))
    #expect(entered.all.count == 1)
    #expect(others.all.count == 0)
    first.open()
    #expect(eventually { others.all.count == 1 })
    // The gate is opened so that the test ends even after a failure.
    both.open()
    for job in [running, waiting] { #expect(job.done.wait(nanoseconds: 30_000_000_000)) }
    #expect(peek.done.wait(nanoseconds: 30_000_000_000))
    #expect(read(buffer.range.start) == .byte(expectedByte(pageBytes)))
  }
}
