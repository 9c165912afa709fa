import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite(
  "Calls that are given up and do not return", .timeLimit(.minutes(6)),
  .enabled(if: Host.features.contains(.poison), SkipReason.poison))
struct StuckLimitTests {
  private func runtime(threads: Int = 4, patience: UInt64 = 100_000_000) throws -> FaultRuntime {
    var configuration = FaultRuntimeConfiguration(
      delivery: .eventLoop, handlerThreads: 1, providerThreads: threads, explainsFailures: false)
    configuration.streamDistance = 0
    configuration.providerPatience = patience
    return try FaultRuntime(configuration)
  }

  private func cause(_ region: LazyRegion, _ page: Int) -> ResolutionError? {
    region.failure(at: page * pageBytes)?.cause as? ResolutionError
  }

  @Test("More of them than any bound: an error at once for their region, and service for every other")
  func bound() throws {
    let dam = Dam()
    defer { dam.open() }
    let runtime = try runtime()
    let limit = PoolLimits.givenUp
    let dead = try runtime.map(
      dam.provider(), byteCount: 4000 * pageBytes,
      options: RegionOptions(advice: .random, timeout: .milliseconds(20)))
    // On a busy machine the time may be over before a thread has taken the request, so there may be more touches.
    let breaker = Later { () -> Int in
      var page = 0
      while dead.core.calls.givenUp < limit, page < 3000 {
        guard dead.access(page * pageBytes) == .signal(SIGBUS) else { return 4000 }
        page += 1
      }
      return page
    }
    let page = try breaker.result()
    #expect(page < 3000)
    #expect(dam.callCount == limit)
    #expect(dead.access(page * pageBytes) == .signal(SIGBUS))
    #expect(cause(dead, page) == .providerStuck(callCount: limit))
    let late = Later { try? dead.retry((page * pageBytes)..<((page + 1) * pageBytes)) }
    #expect(try late.result() == nil)
    #expect(cause(dead, page) == .providerStuck(callCount: limit))
    #expect(cause(dead, page)?.stuckCallCount == limit)
    #expect(cause(dead, page)?.description.contains("\(limit) calls of this provider have not returned") == true)
    let pieces = Later { () -> FaultRuntimeError? in
      do throws(FaultRuntimeError) {
        try unsafe dead.forEachUnsafePiece(of: 0..<pageBytes) { _, _ in }
        return nil
      } catch {
        return error
      }
    }
    #expect(try pieces.result()?.failure?.cause as? ResolutionError == .providerStuck(callCount: limit))
    #expect(dam.callCount == limit)
    let healthy = try runtime.map(patternProvider(mayBlock: true), byteCount: 8 * pageBytes)
    let reader = Later { mismatches(in: healthy) }
    #expect(try reader.result() == [])
    // Each call that returns makes room for another one, and the threads end.
    let pool = try #require(dead.eventLoop).pool
    dam.open()
    #expect(comes(0..<(100 * pageBytes), of: dead))
    #expect(eventually { pool.threadCount == 4 })
  }

  @Test("A fault on a page beyond the bound fails without a call, however long the region's timeout is")
  func atOnce() throws {
    let dam = Dam()
    defer { dam.open() }
    let runtime = try runtime()
    let region = try runtime.map(
      dam.provider(), byteCount: 4 * pageBytes, options: RegionOptions(timeout: .seconds(3600)))
    try region.fillBehindItsBack(2, from: Scratch(pages: 1))
    for _ in 0..<PoolLimits.givenUp { region.core.calls.noteGivenUp() }
    let toucher = Later { region.access(pageBytes) }
    #expect(try toucher.result() == .signal(SIGBUS))
    #expect(cause(region, 1) == .providerStuck(callCount: PoolLimits.givenUp))
    let prefetcher = Later { #expect(throws: FaultRuntimeError.self) { try region.populate() } }
    let failure = try prefetcher.result()?.failure
    #expect(failure?.cause as? ResolutionError == .providerStuck(callCount: PoolLimits.givenUp))
    #expect(failure?.offset == 0)
    // What is there already needs no call.
    #expect(throws: Never.self) { try region.prefetch((2 * pageBytes)..<(3 * pageBytes)) }
    #expect(dam.callCount == 0)
    for _ in 0..<PoolLimits.givenUp { region.core.calls.noteReturn() }
  }

  // A sanitizer needs more address space than the limit leaves.
  @Test(
    "Where no thread can be started, one such call is the bound, so that other regions keep the threads there are",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func noMoreThreads() async {
    await #expect(processExitsWith: .success) {
      limitTime()
      let dam = Dam()
      var configuration = FaultRuntimeConfiguration(
        delivery: .eventLoop, handlerThreads: 1, providerThreads: 2, explainsFailures: false)
      configuration.streamDistance = 0
      let runtime = try FaultRuntime(configuration)
      let dead = try runtime.map(
        dam.provider(), byteCount: 8 * pageBytes,
        options: RegionOptions(advice: .random, timeout: .milliseconds(20)))
      let healthy = try runtime.map(patternProvider(mayBlock: true), byteCount: 8 * pageBytes)
      #expect(healthy.access(0) == .byte(expectedByte(0)))
      // Swift ends the program where it gets no memory. The limit leaves less than the stack of a thread needs.
      cts_keep_heap()
      let words = lines("/proc/self/statm").first?.split(separator: " ") ?? []
      let used = (words.first.flatMap { Int($0) } ?? 0) * pageBytes
      var limit = rlimit(rlim_cur: rlim_t(used + (700 << 10)), rlim_max: .max)
      try #require(unsafe setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0)
      for page in 0..<8 { #expect(dead.access(page * pageBytes) == .signal(SIGBUS)) }
      #expect(dam.callCount == 1)
      let cause = dead.failure(at: 7 * pageBytes)?.cause as? ResolutionError
      #expect(cause == .providerStuckWithoutThreads(callCount: 1))
      #expect(cause?.errno == .resourceTemporarilyUnavailable)
      #expect(cause?.description.contains("RLIMIT_NPROC") == true)
      for page in 1..<8 { #expect(healthy.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
      exit(0)
    }
  }

  @Test("A prefetch that gets no thread fails when the timeout has passed since it was asked for")
  func waitsForThread() throws {
    let dam = Dam()
    defer { dam.open() }
    // The pool has no more patience than to the end of the test, so these two occupy it.
    let runtime = try runtime(threads: 2, patience: .max)
    let stuck = try (0..<2).map { _ in try runtime.map(dam.provider(), byteCount: pageBytes) }
    let threads = stuck.map { region in TestThread { _ = region.access(0) } }
    #expect(eventually { dam.callCount == 2 })
    let asked = Requests()
    let region = try runtime.map(
      ClosureProvider { request, _ in
        asked.add(request)
        return .zero
      }, byteCount: 4 * pageBytes, options: RegionOptions(timeout: .milliseconds(50)))
    let prefetcher = Later { #expect(throws: FaultRuntimeError.self) { try region.populate() } }
    let error = try prefetcher.result()
    #expect(error?.failure?.cause as? ResolutionError == .timeoutExceeded(.milliseconds(50)))
    let pieces = Later { () -> FaultRuntimeError? in
      do throws(FaultRuntimeError) {
        try unsafe region.forEachUnsafePiece(of: 0..<pageBytes) { _, _ in }
        return nil
      } catch {
        return error
      }
    }
    #expect(try pieces.result()?.failure?.cause as? ResolutionError == .timeoutExceeded(.milliseconds(50)))
    #expect(region.access(pageBytes) == .signal(SIGBUS))
    #expect(asked.all.isEmpty)
    dam.open()
    for thread in threads { #expect(thread.join()) }
  }

  @Test("The time of a request for a prefetch counts from the asking, and of a further step from the step before")
  func askedAt() throws {
    let region = try Region(
      testing: patternProvider(mayBlock: true), byteCount: 4 * pageBytes,
      options: RegionOptions(timeout: .seconds(3600)))
    let inFlight = RequestsInFlight()
    let job = PoolPrefetch(region, 0..<(4 * pageBytes))
    let start = job.askedAt
    #expect(start != 0)
    #expect(eventually { cuffd_monotonic_nanoseconds() > start + 1_000_000 })
    let request = try #require(inFlight.claim(for: job, from: 0, to: 2 * pageBytes))
    #expect(request.permit.isOlder(than: 1_000_000, at: start + 1_000_001))
    // No thread waits for pages ahead of a reader, so they are not asked for in that sense.
    #expect(PoolPrefetch(aheadOfReaderOf: region).askedAt == 0)
    // Pages that are there are progress.
    let other = Scratch(pages: 1)
    let mapped = try runtime().map(
      patternProvider(mayBlock: true), byteCount: 4 * pageBytes, options: RegionOptions(timeout: .seconds(3600)))
    try mapped.fillBehindItsBack(0, from: other)
    let second = PoolPrefetch(mapped.core, 0..<(4 * pageBytes))
    let before = second.askedAt
    #expect(eventually { cuffd_monotonic_nanoseconds() > before })
    let goesOn = second.giveUp(.resolveTimedOut, at: pageBytes)
    #expect(goesOn)
    #expect(second.askedAt > before)
  }

  @Test("A prefetch that waits for a younger request fails when its own time is over")
  func followers() throws {
    let region = try Region(
      testing: patternProvider(mayBlock: true), byteCount: 4 * pageBytes,
      options: RegionOptions(timeout: .nanoseconds(1)))
    let inFlight = RequestsInFlight()
    let early = PoolPrefetch(region, 0..<pageBytes)
    let endless = PoolPrefetch(aheadOfReaderOf: region)
    let request = try #require(inFlight.claim(for: PoolPrefetch(region, 0..<pageBytes), from: 0, to: pageBytes))
    // An answer is being put in place, so the request itself is not withdrawn.
    try request.permit.beginPlacing()
    #expect(inFlight.claim(for: early, from: 0, to: pageBytes) == nil)
    #expect(inFlight.claim(for: endless, from: 0, to: pageBytes) == nil)
    var late: [PoolPrefetch] = []
    #expect(
      eventually {
        late = inFlight.withdrawOverdueFollowers()
        return !late.isEmpty
      })
    #expect(late.count == 1 && late[0] === early)
    #expect(request.followers.count == 1 && request.followers[0] === endless)
  }
}
