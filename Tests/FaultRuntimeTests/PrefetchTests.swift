import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Prefetch and populate", .timeLimit(.minutes(6)))
struct PrefetchTests {
  private func runtime(_ delivery: Delivery) throws -> FaultRuntime {
    try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery, handlerThreads: 1))
  }

  private func provider(
    seed: Int = 0, preferred: Int = 64 << 10, largest: Int = 256 << 10
  ) -> ClosureProvider {
    patternProvider(
      seed: seed, requestSize: RequestSize(preferred: preferred, largest: largest), inFaultingThread: true)
  }

  /// Returns whether each page is resident.
  private func residency(_ region: LazyRegion) -> [Bool] {
    var pages = [UInt8](repeating: 0, count: region.core.range.byteCount / pageBytes)
    let refusal = unsafe pages.withUnsafeMutableBufferPointer { buffer in
      unsafe region.core.memory.noteResident(region.core.range, in: buffer.baseAddress!)
    }
    #expect(refusal == nil)
    return pages.map { $0 & 1 != 0 }
  }

  /// Returns how many bytes of the region are in huge pages.
  private func hugeBytes(_ region: LazyRegion) -> Int {
    region.kernelCount("AnonHugePages")
  }

  /// Returns how many bytes must be in huge pages. The pages of a memfd are not moved.
  private func expectedHuge(_ byteCount: Int, _ delivery: Delivery) -> Int { delivery == .sigsegv ? 0 : byteCount }

  @Test("Where no huge page can be moved, a request does not end where one would begin")
  func acrossHugePages() throws {
    let huge = UInt(cuffd_huge_page_size())
    try #require(huge > 0)
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop, handlerThreads: 1))
    let requests = Requests()
    let provider = ClosureProvider(
      requestSize: RequestSize(preferred: 1, largest: 4 * pageBytes), permissions: .onHandler
    ) { request, page in
      requests.add(request)
      page.append(expectedBytes(request.range))
      return .filled
    }
    // The kernel puts new memory beside the other regions, so one of a few regions has the address in its middle. The
    // number of pages is odd, so that the regions begin at different places between two such addresses.
    var regions: [LazyRegion] = []
    var across: LazyRegion?
    while across == nil, regions.count < 100 {
      let region = try runtime.map(provider, byteCount: 101 * pageBytes, options: RegionOptions(access: .readWrite))
      regions.append(region)
      let offset = Int((huge - region.address % huge) % huge)
      if (1..<101).contains(offset / pageBytes), offset / pageBytes % 4 != 0 { across = region }
    }
    try #require(across).populate()
    #expect(requests.all.map(\.byteCount) == Array(repeating: 4 * pageBytes, count: 25) + [pageBytes])
  }

  @Test("A whole region, with huge pages in the middle and an odd end", arguments: Delivery.ofRegions)
  func populate(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let huge = Int(cuffd_huge_page_size())
    let region = try runtime.map(provider(), byteCount: 2 * max(huge, 1 << 20) + 5 * pageBytes + 77)
    try region.populate()
    #expect(residency(region).allSatisfy { $0 })
    #expect(runtime.statistics.faults == 0)
    #expect(runtime.statistics.bytesFilled == region.core.range.byteCount)
    if huge > 0, Host.features.contains(.move) { #expect(hugeBytes(region) == expectedHuge(2 * huge, delivery)) }
    #expect(mismatches(in: region) == [])
    #expect(tailIsZero(region))
    #expect(runtime.statistics.faults == 0)
    let requests = runtime.statistics.requests
    try region.populate()
    #expect(runtime.statistics.bytesFilled == region.core.range.byteCount)
    #expect(runtime.statistics.requests - requests < 10)
  }

  @Test("Huge pages of lent memory and of zeros", arguments: Delivery.ofRegions)
  func otherAnswers(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let byteCount = 2 * max(Int(cuffd_huge_page_size()), 1 << 20)
    let lent = try runtime.map(MemoryProvider(copying: expectedBytes(0..<byteCount)))
    try lent.populate()
    #expect(mismatches(in: lent) == [])
    let zero = try runtime.map(ZeroProvider(), byteCount: byteCount)
    try zero.populate()
    #expect((0..<byteCount / pageBytes).allSatisfy { zero.access($0 * pageBytes + 9) == .byte(0) })
    #expect(write(1, to: zero.address) == .byte(1))
    #expect(runtime.statistics.faults == 0)
  }

  @Test("A read-only region is copied into", arguments: Delivery.ofRegions)
  func readOnly(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let region = try runtime.map(
      provider(), byteCount: (4 << 20) + 9, options: RegionOptions(access: .readOnly))
    try region.populate()
    #expect(hugeBytes(region) == 0)
    #expect(mismatches(in: region) == [])
    #expect(runtime.statistics.faults == 0)
  }

  @Test("A range brings the pages that hold it, and keeps what is there", arguments: Delivery.ofRegions)
  func range(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let region = try runtime.map(provider(preferred: 1, largest: 4 * pageBytes), byteCount: 20 * pageBytes)
    #expect(write(0xaa, to: region.address + UInt(6 * pageBytes)) == .byte(0xaa))
    try region.prefetch((4 * pageBytes + 5)..<(9 * pageBytes + 1))
    let resident = residency(region).enumerated().filter(\.element).map(\.offset)
    #expect(resident == Array(4...9))
    #expect(region.access(6 * pageBytes) == .byte(0xaa))
    #expect(region.access(6 * pageBytes + 1) == .byte(expectedByte(6 * pageBytes + 1)))
    #expect(runtime.statistics.faults == 1)
    try region.prefetch(3..<3)
    #expect(mismatches(in: region) == [6 * pageBytes])
  }

  @Test(
    "Pages that are there are not asked for again, also between pages that are missing", arguments: Delivery.ofRegions)
  func aroundPresent(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let requests = Requests()
    let region = try runtime.map(
      ClosureProvider(
        requestSize: RequestSize(preferred: 1, largest: 16 * pageBytes), permissions: .inSignalHandler
      ) { request, page in
        requests.add(request)
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 20 * pageBytes, options: RegionOptions(advice: .random))
    for page in [3, 9, 10] { #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
    #expect(requests.all.count == 3)
    try region.populate()
    let pages = requests.all.dropFirst(3).map { ($0.offset / pageBytes)..<($0.range.upperBound / pageBytes) }
    #expect(pages == [0..<3, 4..<9, 11..<20])
    #expect(mismatches(in: region) == [])
  }

  @Test("A step goes no further than to the next huge page that can be moved", arguments: [true, false])
  func boundaries(isWritable: Bool) throws {
    let huge = Int(cuffd_huge_page_size())
    guard huge > 0, Host.features.contains(.move) else { return }
    let region = try Region(
      testing: ZeroProvider(), byteCount: 4 * huge - pageBytes,
      options: RegionOptions(access: isWritable ? .readWrite : .readOnly))
    let filler = BulkFiller(pageSize: .ofHost(), resolveTimeout: 0)
    // Where no huge page follows, the step is limited by what one look at the pages shows.
    let look = max(512 * pageBytes, huge)
    let offsets = stride(from: 0, to: region.range.byteCount, by: huge / 4).flatMap { [$0, $0 + pageBytes] }
    for offset in offsets where offset < region.range.byteCount {
      let address = region.address(of: offset)
      let next = offset + huge - Int(address % UInt(huge))
      let isWhole = next + huge <= region.byteCount
      #expect(filler.boundary(in: region, after: offset) == (isWritable && isWhole ? next : offset + look))
    }
  }

  @Test("Ranges that are not within the region, and regions that are closed", arguments: Delivery.ofRegions)
  func badInput(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let region = try runtime.map(provider(), byteCount: 100)
    for range in [0..<101, -1..<5, 101..<102, 0..<Int.max, Int.min..<0] {
      let error = #expect(throws: FaultRuntimeError.self) { try region.prefetch(range) }
      #expect(error?.code == .rangeOutOfBounds)
    }
    region.close()
    let error = #expect(throws: FaultRuntimeError.self) { try region.populate() }
    #expect(error?.code == .regionClosed)
  }

  @Test(
    "A page that fails is named; it is not poisoned, and the pages before it are there", arguments: Delivery.ofRegions)
  func failure(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let isBroken = Atomic<Bool>(true)
    let region = try runtime.map(
      ClosureProvider(
        requestSize: RequestSize(preferred: 4 * pageBytes, largest: 8 * pageBytes), permissions: .inSignalHandler
      ) { request, page in
        if isBroken.load(ordering: .relaxed), request.range.contains(5 * pageBytes) { throw Refused() }
        page.append(request.range.lazy.map { expectedByte($0) })
        return .filled
      }, byteCount: 16 * pageBytes)
    let error = #expect(throws: FaultRuntimeError.self) { try region.populate() }
    #expect(error?.code == .pageFailed)
    #expect(error?.failure?.offset == 5 * pageBytes)
    #expect(error?.failure?.cause as? Refused == Refused())
    #expect(residency(region)[..<5].allSatisfy { $0 })
    #expect(region.failures.isEmpty)
    isBroken.store(false, ordering: .relaxed)
    try region.populate()
    #expect(mismatches(in: region) == [])
    #expect(runtime.statistics.faults == 0)
  }

  @Test("A provider cannot prefetch on the thread that would do it")
  func fromProvider() throws {
    let runtime = try runtime(.eventLoop)
    let other = try runtime.map(provider(), byteCount: pageBytes)
    let code = Monitor<FaultRuntimeError.Code?>(nil)
    let region = try runtime.map(
      ClosureProvider(permissions: .onHandler) { request, page in
        do throws(FaultRuntimeError) { try other.populate() } catch { code.withLock { $0 = error.code } }
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: 1)
    #expect(region.access(0) == .byte(1))
    #expect(code.withLock { $0 } == .prefetchFromProvider)
  }

  @Test("Faults go ahead of a prefetch on the same handler thread")
  func demandFirst() throws {
    let runtime = try runtime(.eventLoop)
    let pages = 4000
    let asked = Atomic<Int>(0)
    let long = try runtime.map(
      ClosureProvider(requestSize: RequestSize(preferred: 1, largest: 1), permissions: .onHandler) { request, page in
        asked.wrappingAdd(1, ordering: .relaxed)
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: pages * pageBytes)
    let region = try runtime.map(provider(preferred: 1, largest: 1), byteCount: 10 * pageBytes)
    let prefetcher = TestThread { #expect(throws: Never.self) { try long.populate() } }
    #expect(eventually { asked.load(ordering: .relaxed) > 0 })
    for index in 0..<5 {
      #expect(region.access(index * pageBytes) == .byte(expectedByte(index * pageBytes)))
    }
    // The prefetch was not finished when all five faults had been answered.
    #expect(asked.load(ordering: .relaxed) < pages)
    #expect(prefetcher.join())
    #expect(asked.load(ordering: .relaxed) == pages)
  }

  @Test("Threads that touch a region while it is populated read the right bytes", arguments: Delivery.ofRegions)
  func touchedMeanwhile(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let pages = 1200
    let region = try runtime.map(provider(preferred: 1), byteCount: pages * pageBytes)
    let wrong = Atomic<Int>(0)
    let threads = (0..<3).map { index in
      TestThread {
        for step in 0..<pages {
          let offset = (step * 7 + index * 331) % pages * pageBytes + index
          if region.access(offset) != .byte(expectedByte(offset)) { wrong.wrappingAdd(1, ordering: .relaxed) }
        }
      }
    }
    try region.populate()
    for thread in threads { #expect(thread.join()) }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(residency(region).allSatisfy { $0 })
    #expect(runtime.statistics.bytesFilled == pages * pageBytes)
  }

  /// Makes a provider that fills each page with a byte that depends on the page's number. It throws an error for the
  /// pages in `failing`, and records the calling threads in `threads`.
  private func numbered(
    failing: [Int] = [], threads: Monitor<Set<UInt>> = Monitor([])
  ) -> ClosureProvider {
    ClosureProvider(
      requestSize: RequestSize(preferred: 64 << 10, largest: 256 << 10), permissions: .inMemory
    ) { request, page in
      threads.withLock { _ = $0.insert(UInt(pthread_self())) }
      if failing.contains(where: { request.range.contains($0 * pageBytes) }) { throw Refused() }
      var offset = request.offset
      while offset < request.range.upperBound {
        let count = min(pageBytes, request.range.upperBound - offset)
        page.append(repeating: Self.number(offset / pageBytes), count: count)
        offset += count
      }
      return .filled
    }
  }

  private static func number(_ page: Int) -> UInt8 { UInt8(truncatingIfNeeded: page % 251 + 1) }

  /// This is large enough for two threads to share the work.
  private static let sharedByteCount = (37 << 20) + 5 * pageBytes + 77

  @Test("Two threads share a large region", arguments: Delivery.ofRegions)
  func shared(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let threads = Monitor<Set<UInt>>([])
    let region = try runtime.map(numbered(threads: threads), byteCount: Self.sharedByteCount)
    try region.populate()
    #expect(threads.withLock { $0.count } == min(2, Int(cuffd_allowed_cpu_count())))
    #expect(runtime.statistics.bytesFilled == region.core.range.byteCount)
    let huge = Int(cuffd_huge_page_size())
    if huge > 0, Host.features.contains(.move) {
      #expect(hugeBytes(region) == expectedHuge(region.byteCount / huge * huge, delivery))
    }
    for page in 0..<(region.byteCount / pageBytes) {
      let byte = Access.byte(Self.number(page))
      if region.access(page * pageBytes) != byte || region.access((page + 1) * pageBytes - 1) != byte {
        Issue.record("page \(page) is wrong")
      }
    }
    #expect(tailIsZero(region))
    #expect(runtime.statistics.faults == 0)
  }

  @Test(
    "Of two threads that fail, the lower page is named, and those before it are there", arguments: Delivery.ofRegions)
  func sharedFailure(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let lowest = (5 << 20) / pageBytes + 3
    let region = try runtime.map(
      numbered(failing: [lowest, lowest + 1, (6 << 20) / pageBytes, (21 << 20) / pageBytes]),
      byteCount: Self.sharedByteCount)
    let error = #expect(throws: FaultRuntimeError.self) { try region.populate() }
    #expect(error?.code == .pageFailed)
    #expect(error?.failure?.offset == lowest * pageBytes)
    #expect(residency(region)[..<lowest].allSatisfy { $0 })
    #expect(!residency(region)[lowest])
  }

  @Test(
    "After a failure no more is taken, and the lowest page is named, whichever comes last", arguments: [false, true])
  func orderOfFailures(lowerFirst: Bool) throws {
    guard cuffd_allowed_cpu_count() > 1 else { return }
    let runtime = try runtime(.sigbus)
    let lower = (1 << 20) / pageBytes
    let region = try runtime.map(numbered(failing: [lower, (3 << 20) / pageBytes]), byteCount: Self.sharedByteCount)
    let first = PrefetchJob(region: region.core, from: 0, to: region.core.range.byteCount)
    let second = try #require(first.helper())
    for job in lowerFirst ? [first, second] : [second, first] {
      job.run(.ofHost(), resolveTimeout: 1_000_000_000, forbidden: nil, counting: SharedCounters())
    }
    let page = try #require(first.failure?.page)
    #expect(region.core.offset(of: page) == lower * pageBytes)
    #expect(!residency(region)[(8 << 20) / pageBytes])
  }

  @Test("After a move that failed, huge pages are moved again", arguments: [Delivery.eventLoop, .sigbus])
  func moveFails(delivery: Delivery) throws {
    let huge = Int(cuffd_huge_page_size())
    guard huge > 0, Host.features.contains(.move) else { return }
    let runtime = try runtime(delivery)
    let box = Monitor<LazyRegion?>(nil)
    let other = Scratch(pages: 1)
    other.fill(0x55)
    let inTheWay = huge / pageBytes / 2
    let region = try runtime.map(
      ClosureProvider(
        requestSize: RequestSize(preferred: 64 << 10, largest: 256 << 10), permissions: .inMemory
      ) { request, page in
        // In the request for the last part of the first huge page, a page in the middle of it arrives in another way,
        // before the huge page can be moved.
        if request.range.upperBound == huge, let region = box.withLock({ $0 }) {
          box.withLock { $0 = nil }
          try region.fillBehindItsBack(inTheWay, from: other)
        }
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 3 * huge)
    box.withLock { $0 = region }
    try region.populate()
    #expect(box.withLock { $0 } == nil)
    #expect(hugeBytes(region) == 2 * huge)
    #expect(region.access(inTheWay * pageBytes) == .byte(0x55))
    for page in 0..<(3 * huge / pageBytes) where page != inTheWay {
      if region.access(page * pageBytes) != .byte(expectedByte(page * pageBytes)) {
        Issue.record("page \(page) is wrong")
      }
    }
    #expect(runtime.statistics.faults == 0)
    #expect(runtime.statistics.bytesFilled == 3 * huge - pageBytes)
  }

  @Test("Threads that touch a region while two others populate it read the right bytes", arguments: Delivery.ofRegions)
  func touchedWhileShared(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let region = try runtime.map(numbered(), byteCount: Self.sharedByteCount)
    let pages = region.byteCount / pageBytes
    let wrong = Atomic<Int>(0)
    let threads = (0..<3).map { index in
      TestThread {
        for step in stride(from: 0, to: pages, by: 7) {
          let page = (step * 31 + index * 331) % pages
          if region.access(page * pageBytes + index) != .byte(Self.number(page)) {
            wrong.wrappingAdd(1, ordering: .relaxed)
          }
        }
      }
    }
    try region.populate()
    for thread in threads { #expect(thread.join()) }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(residency(region).allSatisfy { $0 })
    #expect(runtime.statistics.bytesFilled == region.core.range.byteCount)
  }

  @Test("Closing ends a prefetch with an error", arguments: Delivery.ofRegions)
  func closedMeanwhile(delivery: Delivery) throws {
    let runtime = try runtime(delivery)
    let asked = Atomic<Int>(0)
    let region = try runtime.map(
      ClosureProvider(requestSize: RequestSize(preferred: 1, largest: 1), permissions: .inSignalHandler) {
        request, page in
        asked.wrappingAdd(1, ordering: .relaxed)
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: 1_000_000 * pageBytes)
    let code = Monitor<FaultRuntimeError.Code?>(nil)
    let prefetcher = TestThread {
      do throws(FaultRuntimeError) { try region.populate() } catch { code.withLock { $0 = error.code } }
    }
    #expect(eventually { asked.load(ordering: .relaxed) > 3 })
    region.close()
    #expect(prefetcher.join())
    #expect(code.withLock { $0 } == .regionClosed)
  }

  @Test("What the kernel puts off for as long as the runtime tries ends a prefetch, and a quiet second starts anew")
  func putOff() throws {
    let owner = SharedUserfaultfd(try Userfaultfd.open(DescriptorKind.allCases, wanting: .eventRemove))
    let core = try Region(testing: patternProvider(), byteCount: 4 * pageBytes, userfaultfd: owner)
    let counters = SharedCounters()
    try owner.uffd.register(core.range, mode: .missing)
    var filler = BulkFiller(pageSize: .ofHost(), resolveTimeout: 30_000_000)
    var patient = BulkFiller(pageSize: .ofHost(), resolveTimeout: .max)
    // This causes an event that no thread reads.
    let discard = unsafe cts_discard_on_thread(core.range.start + UInt(3 * pageBytes), pageBytes)
    #expect(eventually { hasUnreadEvent(owner.uffd.descriptor) })
    var steps = 0
    let error = #expect(throws: BulkFiller.Failure.self) {
      while try filler.step(core, from: 0, to: pageBytes, forbidden: nil, counting: counters) == 0 { steps += 1 }
    }
    #expect(error?.cause as? ResolutionError == .resolveTimedOut)
    #expect(error?.page == core.range.start)
    #expect(steps > 0)
    #expect(try patient.step(core, from: 0, to: pageBytes, forbidden: nil, counting: counters) == 0)
    var messages = MessageBuffer(capacity: 1)
    try owner.uffd.read(into: &messages)
    unsafe cts_join(discard)
    #expect(try filler.step(core, from: 0, to: pageBytes, forbidden: nil, counting: counters) == pageBytes)
    #expect(read(core.range.start) == .byte(expectedByte(0)))
    try owner.uffd.unregister(core.range)
  }
}
