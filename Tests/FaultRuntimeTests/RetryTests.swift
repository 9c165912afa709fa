import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@_spi(Testing) @testable import FaultRuntime

private struct Broken: Error, Equatable { var attempt: Int }

@Suite("How long to wait between attempts")
struct RetryPolicyTests {
  @Test("Waits double up to the largest, and chance shortens them by the jitter at most")
  func waits() {
    let attempts = RetryAttempts(
      RetryPolicy(attempts: 9, firstBackoff: .milliseconds(10), largestBackoff: .milliseconds(65), jitter: 0.5))
    let waits = (1...6).map { attempts.wait(after: $0, chance: 0) / 1_000_000 }
    #expect(waits == [10, 20, 40, 65, 65, 65])
    #expect(attempts.wait(after: 2, chance: 1) == 10_000_000)
    #expect(attempts.wait(after: .max, chance: 0) == 65_000_000)
  }

  @Test("No first wait is no wait ever, and the largest duration does not overflow")
  func extremes() {
    let none = RetryAttempts(RetryPolicy(attempts: 3, firstBackoff: .zero))
    #expect(none.wait(after: 1000, chance: 0) == 0)
    let huge = RetryPolicy(
      attempts: 3, firstBackoff: .seconds(Int64.max), largestBackoff: .seconds(Int64.max), jitter: 0)
    #expect(RetryAttempts(huge).wait(after: 50, chance: 1) > 1 << 62)
  }

  @Test("Values that were set out of their range later do no harm", arguments: [-3, 1.5, 1e300, .infinity, .nan])
  func setLater(jitter: Double) {
    var policy = RetryPolicy(attempts: 3, firstBackoff: .seconds(1), largestBackoff: .seconds(2))
    policy.jitter = jitter
    policy.attempts = -5
    policy.firstBackoff = .seconds(-1)
    policy.firstBackoff = .seconds(7)
    for chance in [0, 0.5, 1] {
      let wait = RetryAttempts(policy).wait(after: 1, chance: chance)
      #expect(wait <= 2_000_000_000)
    }
  }

  @Test("Values out of their range are brought into it")
  func ranges() {
    let policy = RetryPolicy(attempts: -4, firstBackoff: .seconds(-1), largestBackoff: .seconds(-2), jitter: 7)
    #expect(policy.attempts == 1)
    #expect(policy.firstBackoff == .zero)
    #expect(policy.largestBackoff == .zero)
    #expect(policy.jitter == 1)
    #expect(RetryPolicy(attempts: 2, jitter: .nan).jitter == 0)
  }
}

@Suite("Failed pages are asked for again, and cured", .timeLimit(.minutes(6)))
struct RetryTests {
  /// A source whose bad pages fail until they are mended.
  private final class Source: Sendable {
    struct State: Sendable {
      var bad: [Int: Int] = [:]
      var asked: [Int: Int] = [:]
    }
    private let state = Monitor(State())
    let isZero: Bool

    /// Creates a source. `bad` says how often each page fails.
    init(bad: [Int: Int], isZero: Bool = false) {
      self.isZero = isZero
      state.withLock { $0.bad = bad }
    }

    func mend() { state.withLock { $0.bad = [:] } }
    func asked(_ page: Int) -> Int { state.withLock { $0.asked[page] ?? 0 } }

    func answer(_ request: PageRequest, _ page: inout PageBuffer) throws -> PageContents {
      let pages = request.pages
      let failed = state.withLock { state -> Int? in
        var failed: Int?
        for page in pages {
          // A request for several pages does not count as an attempt at one page.
          guard let left = state.bad[page], left > 0 else { continue }
          if pages.count == 1 {
            state.asked[page, default: 0] += 1
            state.bad[page] = left - 1
            failed = state.asked[page]
          } else {
            failed = 0
          }
        }
        if failed == nil, pages.count == 1 { state.asked[pages.lowerBound, default: 0] += 1 }
        return failed
      }
      if let failed { throw Broken(attempt: failed) }
      if isZero { return .zero }
      page.append(expectedBytes(request.range))
      return .filled
    }
  }

  private func region(
    _ asker: Asker, _ source: Source, pages: Int = 8, unit: Int = 1, retry: RetryPolicy = .never, name: String? = nil
  ) throws -> LazyRegion {
    var configuration = FaultRuntimeConfiguration(delivery: asker.delivery)
    configuration.streamDistance = 0
    let provider = ClosureProvider(
      requestSize: RequestSize(preferred: unit * pageBytes, largest: unit * pageBytes), permissions: asker.permissions
    ) { try source.answer($0, &$1) }
    return try FaultRuntime(configuration).map(
      provider, byteCount: pages * pageBytes, options: RegionOptions(name: name, retry: retry))
  }

  private let quick = RetryPolicy(attempts: 4, firstBackoff: .microseconds(50), largestBackoff: .milliseconds(1))

  @Test("A page that comes with a later attempt is no failure", arguments: Asker.allCases, [1, 4])
  func laterAttempt(asker: Asker, unit: Int) throws {
    let source = Source(bad: [2: 3])
    let region = try region(asker, source, unit: unit, retry: quick)
    #expect(mismatches(in: region) == [])
    #expect(source.asked(2) == 4)
    #expect(region.failures.isEmpty)
    #expect(region.failure(at: 2 * pageBytes) == nil)
  }

  @Test(
    "After the last attempt the page fails, and every other works",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison), arguments: Asker.allCases, [1, 4])
  func lastAttempt(asker: Asker, unit: Int) throws {
    let source = Source(bad: [2: .max])
    let region = try region(asker, source, unit: unit, retry: quick)
    #expect(region.access(2 * pageBytes) == .signal(region.failureSignal))
    #expect(source.asked(2) == 4)
    #expect(region.failures.map { $0.cause as? Broken } == [Broken(attempt: 4)])
    for page in [0, 1, 3, 4, 5, 6, 7] {
      #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes)))
    }
  }

  @Test(
    "An attempt that would come after the policy's timeout is not made",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison), arguments: Asker.allCases)
  func retryTimeout(asker: Asker) throws {
    let source = Source(bad: [0: .max])
    let region = try region(
      asker, source, retry: RetryPolicy(attempts: .max, firstBackoff: .seconds(3600), timeout: .seconds(1)))
    #expect(region.access(0) == .signal(region.failureSignal))
    #expect(source.asked(0) == 1)
  }

  @Test("A prefetch makes as many attempts", arguments: Asker.allCases)
  func prefetch(asker: Asker) throws {
    let source = Source(bad: [3: 3, 5: .max])
    let region = try region(asker, source, unit: 4, retry: quick)
    try region.prefetch(0..<(4 * pageBytes))
    #expect(source.asked(3) == 4)
    let error = #expect(throws: FaultRuntimeError.self) { try region.populate() }
    #expect(error?.failure?.offset == 5 * pageBytes)
    #expect(error?.failure?.cause as? Broken == Broken(attempt: 4))
  }

  @Test(
    "retry cures what comes, and leaves the rest as it is",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison), arguments: Asker.allCases, [false, true])
  func cure(asker: Asker, isZero: Bool) throws {
    let source = Source(bad: [1: .max, 5: .max], isZero: isZero)
    let region = try region(asker, source, name: "cured")
    for page in [1, 5] { #expect(region.access(page * pageBytes + 9) == .signal(region.failureSignal)) }
    let failure = region.failure(at: 5 * pageBytes + 77)
    #expect(failure?.offset == 5 * pageBytes)
    #expect(failure?.region == "cured")
    #expect(failure?.provider == "ClosureProvider")
    #expect(failure?.cause is Broken)
    #expect(region.failure(at: 4 * pageBytes) == nil)

    let error = #expect(throws: FaultRuntimeError.self) { try region.retry(0..<(8 * pageBytes)) }
    #expect(error?.code == .pageFailed)
    #expect(error?.failure?.offset == pageBytes)
    #expect(region.access(pageBytes) == .signal(region.failureSignal))

    source.mend()
    try region.retry(pageBytes..<(2 * pageBytes))
    #expect(region.access(pageBytes) == .byte(isZero ? 0 : expectedByte(pageBytes)))
    #expect(region.failure(at: pageBytes) == nil)
    // A faulting thread may ask again by itself if the kernel does not distinguish a poisoned page from a missing
    // one.
    if asker != .faultingThread { #expect(region.access(5 * pageBytes) == .signal(region.failureSignal)) }
    // Written bytes of pages that did not fail are kept.
    #expect(write(7, to: region.address + UInt(2 * pageBytes)) == .byte(7))
    try region.retry(0..<(8 * pageBytes))
    #expect(region.access(5 * pageBytes) == .byte(isZero ? 0 : expectedByte(5 * pageBytes)))
    #expect(region.access(2 * pageBytes) == .byte(7))
    #expect(region.failure(at: 5 * pageBytes) == nil)
  }

  @Test(
    "A later success cures as well", .enabled(if: Host.features.contains(.poison), SkipReason.poison),
    arguments: Asker.allCases, [false, true])
  func laterSuccess(asker: Asker, isZero: Bool) throws {
    let source = Source(bad: [2: .max], isZero: isZero)
    let region = try region(asker, source)
    #expect(region.access(2 * pageBytes) == .signal(region.failureSignal))
    source.mend()
    try region.prefetch(pageBytes..<(4 * pageBytes))
    #expect(region.failure(at: 2 * pageBytes) == nil)
    #expect(region.access(2 * pageBytes) == .byte(isZero ? 0 : expectedByte(2 * pageBytes)))
  }

  @Test("Retrying a range that is not there is an error, and one without failures asks nobody")
  func badRanges() throws {
    let source = Source(bad: [:])
    let region = try region(.pool, source)
    try region.retry(0..<(8 * pageBytes))
    #expect(source.asked(0) == 0)
    for range in [-1..<1, 0..<(8 * pageBytes + 1), Int.min..<0, 0..<Int.max] {
      let error = #expect(throws: FaultRuntimeError.self) { try region.retry(range) }
      #expect(error?.code == .rangeOutOfBounds)
    }
    #expect(region.failure(at: -1) == nil)
    #expect(region.failure(at: .max) == nil)
    region.close()
    #expect(throws: FaultRuntimeError.self) { try region.retry(0..<1) }
  }

  @Test("Of very many failed pages the newest are known, and memory stays bounded")
  func manyFailures() {
    let log = FailureLog()
    for offset in 0..<50_000 {
      log.record(
        PageFailure(region: "r", offset: offset, byteCount: 1, provider: "p", cause: Broken(attempt: offset)))
    }
    #expect(log.failure(at: 49_999)?.cause as? Broken == Broken(attempt: 49_999))
    #expect(log.failure(at: 40_000) != nil)
    #expect(log.failure(at: 0) == nil)
    #expect(log.offsets(in: 0..<50_000).count <= 16_384)
    // Failures of the same page do not take more room either, and the latest cause counts.
    for attempt in 0..<50_000 {
      log.record(PageFailure(region: "r", offset: 7, byteCount: 1, provider: "p", cause: Broken(attempt: attempt)))
    }
    #expect(log.failure(at: 7)?.cause as? Broken == Broken(attempt: 49_999))
    #expect(log.failure(at: 49_999) != nil)
    #expect(log.all.map(\.offset) == log.offsets(in: 0..<50_000).filter { $0 != 7 } + [7, 7])
  }

  @Test("As many pages as may be known are known, however often they fail")
  func manyReports() {
    let log = FailureLog()
    for report in 0...(2 * 16_384) {
      log.record(
        PageFailure(
          region: "r", offset: report % 16_384, byteCount: 1, provider: "p", cause: Broken(attempt: report)))
    }
    #expect(log.offsets(in: 0..<20_000).count == 16_384)
  }

  @Test("A page that failed again lately is not forgotten for its first failure")
  func failedAgain() {
    let log = FailureLog()
    func record(_ offset: Int) {
      log.record(PageFailure(region: "r", offset: offset, byteCount: 1, provider: "p", cause: Broken(attempt: offset)))
    }
    for offset in 0..<16_384 { record(offset) }
    record(0)
    record(16_384)
    #expect(log.offsets(in: 0..<20_000).count < 16_384)
    #expect(log.failure(at: 0) != nil)
    #expect(log.failure(at: 1) == nil)
    #expect(log.failure(at: 16_384) != nil)
  }

  #if DEBUG
    @Test(
      "Zeros that the kernel did not put over a poisoned page are not taken for there",
      .enabled(if: Host.features.contains(.poison), SkipReason.poison))
    func zerosNotPut() async {
      await #expect(processExitsWith: .success) {
        let owner = SharedUserfaultfd(try Userfaultfd.open(DescriptorKind.allCases, wanting: .poison))
        let core = try Region(testing: ZeroProvider(), byteCount: pageBytes, userfaultfd: owner)
        let counters = SharedCounters()
        try owner.uffd.register(core.range, mode: .missing)
        var filler = BulkFiller(pageSize: .ofHost(), resolveTimeout: 1_000_000_000)
        KernelTrouble.begin(seed: 1, perMillion: 500_000)
        var cured = 0
        for _ in 0..<200 {
          #expect(cuffd_discard(UInt64(core.range.start), pageBytes) == 0)
          guard (try? owner.uffd.poison(core.range)) != nil else { continue }
          guard let reached = try? filler.step(core, from: 0, to: pageBytes, forbidden: nil, counting: counters)
          else { continue }
          if reached == pageBytes {
            cured += 1
            #expect(read(core.range.start) == .byte(0))
          }
        }
        #expect(cured > 20)
      }
    }
  #endif

  @Test(
    "An answer of zeros cures the failed pages that it covers",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison), arguments: Asker.allCases)
  func curedByZeros(asker: Asker) throws {
    let isMended = Atomic<Bool>(false)
    var configuration = FaultRuntimeConfiguration(delivery: asker.delivery)
    configuration.streamDistance = 0
    let region = try FaultRuntime(configuration).map(
      ClosureProvider(
        requestSize: RequestSize(preferred: 4 * pageBytes, largest: 4 * pageBytes), permissions: asker.permissions
      ) { _, _ in
        guard isMended.load(ordering: .relaxed) else { throw Broken(attempt: 0) }
        return .zero
      }, byteCount: 4 * pageBytes)
    #expect(region.access(pageBytes) == .signal(region.failureSignal))
    isMended.store(true, ordering: .relaxed)
    #expect(region.access(2 * pageBytes) == .byte(0))
    #expect(region.access(pageBytes) == .byte(0))
    #expect(region.failure(at: pageBytes) == nil)
  }
}

extension FailureLog {
  fileprivate func offsets(in range: Range<Int>) -> [Int] {
    var offsets: [Int] = []
    forEachOffset(in: range) { offsets.append($0) }
    return offsets
  }
}
