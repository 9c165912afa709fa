import CTestSupport
import CUFFD
import TestSupport
import Testing

@testable import FaultRuntime

/// Tests kinds of faults that no region asks for, but that other code with the descriptor can ask for. A page that is
/// resident or in the page cache must never be overwritten with a provider's bytes.
@Suite("Faults of a kind that no region asks for", .timeLimit(.minutes(6)))
struct UnexpectedFaultTests {
  private let requests = Requests()
  /// Holds the request for the first page, and with it a handler thread that calls the provider itself.
  private let gate = Gate()

  /// Makes a region on a handler whose descriptor can report the faults that need `features`.
  private func region(pages: Int, _ features: UserfaultfdFeatures, mayBlock: Bool = false) throws -> LazyRegion {
    var configuration = FaultRuntimeConfiguration(delivery: .eventLoop, handlerThreads: 1)
    configuration.additionalFeatures = features
    configuration.explainsFailures = false
    let provider = ClosureProvider(
      requestSize: RequestSize(preferred: 1, largest: 8 * pageBytes),
      permissions: mayBlock ? .standard : .onHandler
    ) { [requests, gate] request, page in
      requests.add(request)
      if request.offset == 0 { gate.wait() }
      page.append(expectedBytes(request.range))
      return .filled
    }
    return try FaultRuntime(configuration).map(
      provider, byteCount: pages * pageBytes, options: RegionOptions(advice: .random))
  }

  private func page(_ index: Int, of region: LazyRegion) -> AddressRange {
    AddressRange(start: region.address + UInt(index * pageBytes), byteCount: pageBytes)
  }

  /// Write-protects a resident page of the region.
  private func protect(_ index: Int, of region: LazyRegion) throws {
    let loop = try #require(region.eventLoop)
    try loop.uffd.register(region.core.range, mode: [.missing, .writeProtect])
    try loop.uffd.writeProtect(page(index, of: region), true)
  }

  @Test(
    "A write to a page that somebody has protected goes on, and what was written before is still there",
    .enabled(if: Host.has(.pagefaultFlagWriteProtect), SkipReason.writeProtect), arguments: [false, true])
  func writeProtected(mayBlock: Bool) throws {
    let region = try region(pages: 4, .pagefaultFlagWriteProtect, mayBlock: mayBlock)
    let loop = try #require(region.eventLoop)
    let start = page(1, of: region).start
    #expect(write(71, to: start) == .byte(71))
    try protect(1, of: region)
    let faults = loop.statistics.faults
    let writer = Later { write(72, to: start + 1) }
    #expect(try writer.result() == .byte(72))
    #expect(loop.statistics.faults > faults)
    #expect(read(start) == .byte(71))
    #expect(read(start + 2) == .byte(expectedByte(pageBytes + 2)))
    #expect(requests.all.map(\.offset) == [pageBytes])
    #expect(region.failures.isEmpty)
    // Missing pages are still requested from the provider.
    #expect(write(73, to: page(2, of: region).start) == .byte(73))
    #expect(read(page(3, of: region).start) == .byte(expectedByte(3 * pageBytes)))
    #expect(requests.all.map(\.offset) == [1, 2, 3].map { $0 * pageBytes })
  }

  @Test(
    "A protected page between missing ones is not asked for with them, although all are read at once",
    .enabled(if: Host.has(.pagefaultFlagWriteProtect), SkipReason.writeProtect))
  func writeProtectedAmongMissing() throws {
    let region = try region(pages: 4, .pagefaultFlagWriteProtect)
    #expect(write(71, to: page(2, of: region).start) == .byte(71))
    try protect(2, of: region)
    let descriptor = region.descriptorNumber
    let addresses = (0..<4).map { page($0, of: region).start }
    let holder = Later { read(addresses[0]) }
    #expect(eventually { requests.all.count == 2 })
    let readers = [1, 3].map { index in Later { read(addresses[index]) } }
    let writer = Later { write(72, to: addresses[2] + 1) }
    #expect(eventually { waiters(on: descriptor).unread == 3 })
    gate.open()
    #expect(try holder.result() == .byte(expectedByte(0)))
    #expect(try readers[0].result() == .byte(expectedByte(pageBytes)))
    #expect(try readers[1].result() == .byte(expectedByte(3 * pageBytes)))
    #expect(try writer.result() == .byte(72))
    #expect(read(addresses[2]) == .byte(71))
    #expect(requests.all == [2, 0, 1, 3].map { PageRequest(offset: $0 * pageBytes, byteCount: pageBytes) })
    #expect(region.failures.isEmpty)
  }

  @Test(
    "A page that is in the page cache only fails, and keeps what is in the cache",
    .enabled(if: Host.has(.minorShmem), SkipReason.minorShmem), .enabled(if: Host.has(.poison), SkipReason.poison),
    arguments: [false, true])
  func minor(mayBlock: Bool) throws {
    let region = try region(pages: 2, .minorShmem, mayBlock: mayBlock)
    let loop = try #require(region.eventLoop)
    let start = page(1, of: region).start
    var shared: UInt = 0
    var alias: UInt = 0
    try #require(unsafe cts_map_memory(CTS_SHMEM, pageBytes, pageBytes, &shared, &alias) == 0)
    defer {
      _ = cuffd_unmap(UInt64(start), pageBytes)
      _ = cuffd_unmap(UInt64(alias), pageBytes)
    }
    #expect(write(5, to: alias) == .byte(5))
    // Other code has moved this memory over a page of the region, and has registered it with the handler's
    // descriptor.
    try #require(cts_move_mapping(shared, pageBytes, start) == 0)
    try loop.uffd.register(page(1, of: region), mode: .minor)
    let toucher = Later { read(start) }
    #expect(try toucher.result() == .signal(region.failureSignal))
    #expect(region.failures.map { $0.cause as? ResolutionError } == [.refused(.invalidArgument)])
    #expect(requests.all == [])
    #expect(read(alias) == .byte(5))
    #expect(loop.statistics.bytesFilled == 0)
  }

  @Test(
    "What is said to be a fault of another kind fails a page that is missing, and leaves one that is there alone",
    .enabled(if: Host.has(.poison), SkipReason.poison), arguments: [FaultKind.minor, .writeProtect])
  func madeUp(kind: FaultKind) throws {
    // The pages are not registered for write protection, so there is none to lift.
    let region = try region(pages: 4, [])
    #expect(write(71, to: page(1, of: region).start) == .byte(71))
    var answerer = FaultAnswerer(loop: try #require(region.eventLoop))
    for index in [1, 2] {
      let fault = PendingFault(page: page(index, of: region).start, isWrite: true, kind: kind)
      answerer.answerUnexpected(fault, of: region.core)
    }
    #expect(read(page(1, of: region).start) == .byte(71))
    #expect(read(page(1, of: region).start + 1) == .byte(expectedByte(pageBytes + 1)))
    #expect(read(page(2, of: region).start) == .signal(region.failureSignal))
    #expect(region.failure(at: 2 * pageBytes)?.cause as? ResolutionError == .refused(.invalidArgument))
    #expect(requests.all.map(\.offset) == [pageBytes])
    #expect(read(page(3, of: region).start) == .byte(expectedByte(3 * pageBytes)))
  }
}

/// Tests that faults of one kind are kept apart from those of another.
@Suite("Kinds of faults")
struct FaultKindTests {
  @Test("The flags of a message say what the fault is about, whatever the access was")
  func flags() {
    for write in [FaultFlags(), .write] {
      #expect(write.kind == .missing)
      #expect(write.union(.writeProtect).kind == .writeProtect)
      #expect(write.union(.minor).kind == .minor)
    }
  }

  @Test("Faults of one page and different kinds stay apart in a batch, and those of the same kind are merged")
  func batch() {
    var batch = FaultBatch(capacity: 8)
    let kinds: [FaultKind] = [.minor, .missing, .writeProtect, .missing, .minor]
    for kind in kinds { batch.insert(PendingFault(page: UInt(pageBytes), isWrite: false, kind: kind)) }
    batch.insert(PendingFault(page: 0, isWrite: true, kind: .minor))
    batch.insert(PendingFault(page: UInt(pageBytes), isWrite: true, kind: .writeProtect))
    #expect((0..<batch.count).map { batch[$0].kind } == [.minor, .missing, .writeProtect, .minor])
    #expect((0..<batch.count).map { batch[$0].isWrite } == [true, false, true, false])
  }

  @Test(
    "A run takes in no fault of another kind, neither of its own page nor of the next",
    arguments: [FaultKind.writeProtect, .minor])
  func run(kind: FaultKind) throws {
    let region = try Region(
      testing: patternProvider(requestSize: RequestSize(preferred: 1, largest: 8 * pageBytes)),
      byteCount: 8 * pageBytes)
    let first = PendingFault(page: region.range.start, isWrite: false)
    var run = FaultRun(region: region, fault: first, index: 0)
    for page in [0, 1] {
      let other = PendingFault(page: region.range.start + UInt(page * pageBytes), isWrite: false, kind: kind)
      let isTaken = run.absorb(other)
      #expect(!isTaken)
    }
    #expect(run.range.byteCount == pageBytes)
    #expect(run.faults == 0..<1)
  }
}
