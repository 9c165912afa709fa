import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

/// Kernels by the features of their userfaultfd. The tests withhold the other features of the present kernel;
/// `scripts/test-on-old-kernel` runs the same tests on a kernel that really lacks them.
enum OldKernel: String, CaseIterable, CustomTestStringConvertible {
  case oldest = "5.11"
  case debian12 = "6.1"
  case withoutMove = "6.6"

  private var bits: UInt64 {
    switch self {
    case .oldest: 0x1ff
    case .debian12: 0x1fff
    case .withoutMove: 0x7fff
    }
  }

  var features: UserfaultfdFeatures { Host.features.intersection(UserfaultfdFeatures(rawValue: bits)) }
  var testDescription: String { "Linux \(rawValue)" }

  /// The kernels that cannot poison pages.
  static let withoutPoison: [OldKernel] = [.oldest, .debian12]

  func configuration(
    _ delivery: Delivery, poisonFallback: PoisonFallback = .abort, closeTimeout: Duration = .seconds(5)
  ) -> FaultRuntimeConfiguration {
    var configuration = FaultRuntimeConfiguration(
      delivery: delivery, closeTimeout: closeTimeout, poisonFallback: poisonFallback)
    configuration.withheldFeatures = UserfaultfdFeatures(rawValue: ~bits)
    return configuration
  }
}

@Suite("Older kernels", .timeLimit(.minutes(6)))
struct OldKernelTests {
  /// The thread that asks a provider.
  enum Asker: CaseIterable {
    case handler, pool, faultingThread
    var delivery: Delivery { self == .faultingThread ? .sigbus : .eventLoop }
    var permissions: ProviderPermissions { self == .pool ? .inSignalHandler : .inMemory }
  }

  /// A source whose bad page fails until it is mended.
  private final class Source: Sendable {
    private let bad: Int
    private let isMended = Atomic<Bool>(false)
    let asked = Requests()

    init(bad: Int) { self.bad = bad }

    func mend() { isMended.store(true, ordering: .relaxed) }

    func provider(_ asker: Asker, largest: Int = 1) -> ClosureProvider {
      ClosureProvider(
        requestSize: RequestSize(preferred: pageBytes, largest: largest * pageBytes), permissions: asker.permissions
      ) { [self] request, page in
        asked.add(request)
        if !isMended.load(ordering: .relaxed), request.range.contains(bad * pageBytes) { throw Refused() }
        page.append(expectedBytes(request.range))
        return .filled
      }
    }
  }

  /// Pages that differ from each other. They are made and compared a page at a time, because these tests also run in
  /// an emulated machine.
  private static let source: [UInt8] = {
    let page = expectedBytes(0..<pageBytes)
    return (0..<(6 << 20) / pageBytes).flatMap { [UInt8($0 & 0xff), UInt8($0 >> 8)] + page[2...] }
  }()

  /// A provider of the pages of `source`.
  private func provider(_ requestSize: RequestSize, mayBlock: Bool = false) -> ClosureProvider {
    ClosureProvider(requestSize: requestSize, permissions: mayBlock ? .inSignalHandler : .inMemory) { request, page in
      unsafe page.appendUnsafely { free in
        unsafe Self.source[request.range].withUnsafeBytes { unsafe free.copyMemory(from: $0) }
        return request.byteCount
      }
      return .filled
    }
  }

  /// Returns whether every byte is that of the source, except for one that was written.
  private func isRight(_ region: LazyRegion, butFor written: (offset: Int, value: UInt8)) -> Bool {
    var expected = Self.source[..<region.byteCount]
    expected[written.offset] = written.value
    return unsafe expected.withUnsafeBytes { expected in
      unsafe memcmp(expected.baseAddress!, region.unsafeBytes.baseAddress!, expected.count) == 0
    }
  }

  private static func threadsReading(_ addresses: [UInt], into outcomes: Monitor<[Access]>) -> [TestThread] {
    addresses.map { address in
      TestThread {
        let outcome = read(address)
        outcomes.withLock { $0.append(outcome) }
      }
    }
  }

  // MARK: What works everywhere

  @Test("The runtime finds the features that the kernel has, and no other", arguments: OldKernel.allCases)
  func features(kernel: OldKernel) throws {
    let runtime = try FaultRuntime(kernel.configuration(.auto))
    #expect(runtime.availableFeatures == kernel.features)
    #expect(runtime.availableFeatures.isSuperset(of: [.sigbus, .threadID, .eventRemap, .eventUnmap, .eventRemove]))
  }

  @Test(
    "Every provider, in every delivery, every byte", arguments: OldKernel.allCases,
    [Delivery.auto, .eventLoop, .sigbus])
  func bytes(kernel: OldKernel, delivery: Delivery) throws {
    let runtime = try FaultRuntime(kernel.configuration(delivery))
    let byteCount = 70 * pageBytes + 123
    let source = Array(Self.source[..<byteCount])
    let file = try TemporaryFile(bytes: source)
    let several = RequestSize(preferred: 4 * pageBytes, largest: 16 * pageBytes)
    var regions = [
      try runtime.map(MemoryProvider(copying: source)),
      try runtime.map(FileProvider(file.path)),
      try runtime.map(provider(.singlePage), byteCount: byteCount),
      try runtime.map(provider(several), byteCount: byteCount),
    ]
    if delivery != .sigbus { regions.append(try runtime.map(provider(several, mayBlock: true), byteCount: byteCount)) }
    for region in regions {
      #expect(region.access(31 * pageBytes + 7) == .byte(source[31 * pageBytes + 7]))
      let place = region.address + UInt(5 * pageBytes + 9)
      #expect(write(0, to: place) == .byte(0))
      #expect(isRight(region, butFor: (5 * pageBytes + 9, 0)))
      #expect(tailIsZero(region))
    }
    let zero = try runtime.map(ZeroProvider(), byteCount: byteCount)
    let zeros = [UInt8](repeating: 0, count: byteCount)
    #expect(unsafe memcmp(zeros, zero.unsafeBytes.baseAddress!, byteCount) == 0)
    #expect(write(7, to: zero.address + 9) == .byte(7))
    #expect(zero.access(9) == .byte(7))
    #expect(runtime.statistics.pagesFailed == 0)
  }

  @Test("Without MOVE a region is populated by copying", arguments: OldKernel.allCases, Asker.allCases)
  func populate(kernel: OldKernel, asker: Asker) throws {
    let runtime = try FaultRuntime(kernel.configuration(asker.delivery))
    let huge = min(max(Int(cuffd_huge_page_size()), 1 << 20), 2 << 20)
    let provider = provider(RequestSize(preferred: 64 << 10, largest: 256 << 10), mayBlock: asker == .pool)
    let region = try runtime.map(provider, byteCount: 2 * huge + 5 * pageBytes + 77)
    #expect(write(0, to: region.address + UInt(huge + 3)) == .byte(0))
    try region.prefetch((huge - pageBytes)..<(huge + 9))
    try region.populate()
    let faults = runtime.statistics.faults
    #expect(region.kernelCount("AnonHugePages") == 0)
    #expect(isRight(region, butFor: (huge + 3, 0)))
    #expect(tailIsZero(region))
    #expect(runtime.statistics.faults == faults)
  }

  @Test(
    "Faults are of pages, whether the kernel tells the exact address or not", arguments: OldKernel.allCases,
    [false, true])
  func exactAddress(kernel: OldKernel, isWanted: Bool) throws {
    var configuration = kernel.configuration(.eventLoop)
    // The feature is enabled as it is when a part of the library needs it.
    if isWanted { configuration.additionalFeatures = .exactAddress }
    let source = Source(bad: -1)
    let region = try FaultRuntime(configuration).map(source.provider(.handler), byteCount: 4 * pageBytes)
    for offset in [pageBytes + 123, 4 * pageBytes - 1, 1] {
      #expect(region.access(offset) == .byte(expectedByte(offset)))
    }
    #expect(source.asked.all.map(\.offset) == [pageBytes, 3 * pageBytes, 0])
    guard let loop = region.eventLoop else { return }
    #expect(loop.uffd.enabled.contains(.exactAddress) == (isWanted && kernel.features.contains(.exactAddress)))
  }

  // MARK: Without poison

  @Test("A program ends with a line that says why", arguments: OldKernel.withoutPoison, [Asker.handler, .pool])
  func abort(kernel: OldKernel, asker: Asker) async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      [kernel = kernel.rawValue as String, mayBlock = (asker == .pool) as Bool] in
      let configuration = OldKernel(rawValue: kernel)!.configuration(.eventLoop)
      let region = try FaultRuntime(configuration).map(
        ClosureProvider(permissions: mayBlock ? .standard : .onHandler) { _, _ in throw Refused() },
        byteCount: pageBytes,
        options: RegionOptions(name: "old"))
      _ = region.access(0)
    }
    let text = result.errors
    #expect(text.contains("region 'old', page at offset 0, provider ClosureProvider: Refused()"))
    #expect(text.contains("cannot poison a page (Linux 6.6 can)"))
    #expect(text.contains("PoisonFallback.keepWaiting"))
  }

  @Test(
    "Threads can keep waiting, until a retry brings the page or the region is closed",
    arguments: OldKernel.withoutPoison, [Asker.handler, .pool])
  func keepWaiting(kernel: OldKernel, asker: Asker) throws {
    // Only the first one is mended: the provider may be asked for a thread that has just begun to wait.
    let sources = [Source(bad: 1), Source(bad: 1)]
    let runtime = try FaultRuntime(kernel.configuration(.eventLoop, poisonFallback: .keepWaiting))
    let regions = try sources.map { try runtime.map($0.provider(asker), byteCount: 3 * pageBytes) }
    let outcomes = regions.map { _ in Monitor<[Access]>([]) }
    let threads = zip(regions, outcomes).flatMap { region, outcomes in
      Self.threadsReading([1, 1].map { region.address + UInt($0 * pageBytes + 5) }, into: outcomes)
    }
    for region in regions {
      #expect(eventually { region.failure(at: pageBytes) != nil })
      #expect(eventually { waiters(on: region.descriptorNumber).all >= 2 })
      #expect(region.access(0) == .byte(expectedByte(0)))
      #expect(region.access(2 * pageBytes) == .byte(expectedByte(2 * pageBytes)))
    }
    #expect(outcomes.allSatisfy { $0.withLock { $0 }.isEmpty })
    sources[0].mend()
    try regions[0].retry(0..<(3 * pageBytes))
    for thread in threads[..<2] { #expect(thread.join()) }
    let right = Access.byte(expectedByte(pageBytes + 5))
    #expect(outcomes[0].withLock { $0 } == [right, right])
    #expect(mismatches(in: regions[0]) == [])
    regions[1].close()
    for thread in threads[2...] { #expect(thread.join()) }
    #expect(outcomes[1].withLock { $0 } == [.signal(SIGSEGV), .signal(SIGSEGV)])
  }

  @Test("A faulting thread gets its signal, and the next touch asks again", arguments: OldKernel.withoutPoison)
  func sigbus(kernel: OldKernel) throws {
    let source = Source(bad: 1)
    let region = try FaultRuntime(kernel.configuration(.sigbus)).map(
      source.provider(.faultingThread), byteCount: 3 * pageBytes)
    for _ in 0..<3 { #expect(region.access(pageBytes + 5) == .signal(SIGBUS)) }
    #expect(source.asked.all.map(\.offset) == [pageBytes, pageBytes, pageBytes])
    #expect(region.failure(at: pageBytes)?.cause as? Refused == Refused())
    #expect(!region.isResident(pageBytes))
    source.mend()
    #expect(mismatches(in: region) == [])
  }

  @Test(
    "Checked access and prefetches throw, fail no page, and bring it when the source has it",
    arguments: OldKernel.withoutPoison, Asker.allCases)
  func checked(kernel: OldKernel, asker: Asker) throws {
    let source = Source(bad: 5)
    let region = try FaultRuntime(kernel.configuration(asker.delivery)).map(
      source.provider(asker, largest: 4), byteCount: 8 * pageBytes)
    let all = 0..<(8 * pageBytes)
    let calls: [() throws -> Void] = [
      { _ = try region.read(all) },
      { try region.write([1, 2, 3], at: 5 * pageBytes) },
      { try unsafe region.withUnsafeResident(all) { _ in } },
      { try unsafe region.forEachUnsafePiece(of: all) { _, _ in } },
      { try region.prefetch(all) },
      { try region.populate() },
    ]
    for call in calls {
      let error = #expect(throws: FaultRuntimeError.self) { try call() }
      #expect(error?.code == .pageFailed)
      #expect(error?.failure?.offset == 5 * pageBytes)
      #expect(error?.failure?.cause as? Refused == Refused())
    }
    #expect(!region.isResident(5 * pageBytes))
    source.mend()
    #expect(try region.read(all) == expectedBytes(all))
    #expect(mismatches(in: region) == [])
  }

  @Test(
    "Closing ends those who wait for a provider that does not return, and nobody reads zeros",
    arguments: OldKernel.withoutPoison, [Asker.handler, .pool])
  func close(kernel: OldKernel, asker: Asker) throws {
    let gate = Gate()
    var configuration = kernel.configuration(.eventLoop, closeTimeout: .milliseconds(100))
    // With one thread, one request is in progress and the others have not begun.
    configuration.providerThreads = 1
    let runtime = try FaultRuntime(configuration)
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: asker == .pool ? .standard : .onHandler) { request, page in
        gate.wait()
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 4 * pageBytes)
    let outcomes = Monitor<[Access]>([])
    let threads = Self.threadsReading((0..<4).map { region.address + UInt($0 * pageBytes) }, into: outcomes)
    #expect(eventually { waiters(on: region.descriptorNumber).all == 4 })
    region.close()
    for thread in threads { #expect(thread.join()) }
    #expect(outcomes.withLock { $0 } == Array(repeating: .signal(SIGSEGV), count: 4))
    #expect(runtime.regionCount == 0)
    // The later answers of those requests affect no other region and end nothing.
    gate.open()
    let next = try runtime.map(patternProvider(mayBlock: asker == .pool), byteCount: 4 * pageBytes)
    #expect(mismatches(in: next) == [])
  }

  @Test("A provider that waits for itself ends the program, which does not hang", arguments: OldKernel.withoutPoison)
  func deadlock(kernel: OldKernel) async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      [kernel = kernel.rawValue as String] in
      let place = Monitor<UInt>(0)
      let region = try FaultRuntime(OldKernel(rawValue: kernel)!.configuration(.eventLoop)).map(
        ClosureProvider(requestSize: .singlePage, permissions: .onHandler) { _, _ in
          _ = TestSupport.read(place.withLock { $0 } + UInt(pageBytes))
          return .zero
        }, byteCount: 2 * pageBytes, options: RegionOptions(name: "selfish"))
      place.withLock { $0 = region.address }
      _ = region.access(0)
      _exit(0)
    }
    let text = result.errors
    #expect(text.contains("region 'selfish', page at offset \(pageBytes)"))
    #expect(text.contains("Linux 6.6 can"))
  }

  /// Closes regions at the limit of mappings, until the memory of one cannot be taken away. Returns that region and the
  /// regions that are still open; nil if closing took all away.
  ///
  /// Neighbouring regions are one mapping, and closing one in the middle takes two more mappings. Another thread of the
  /// process may end at any time and give back the mappings of its stack, so there are several regions to close.
  private static func closeAtLimit(_ regions: [LazyRegion]) -> (left: LazyRegion, open: [LazyRegion])? {
    var open = regions.sorted { $0.address < $1.address }
    guard cts_use_up_mappings() > 0 else { return nil }
    for index in stride(from: open.count - 2, to: 0, by: -2) {
      let region = open.remove(at: index)
      region.close()
      if region.core.isLeftBehind { return (region, open) }
    }
    return nil
  }

  @Test(
    "At the limit of mappings, where closing cannot take memory away, the program ends at a touch of it",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: OldKernel.withoutPoison)
  func leftBehind(kernel: OldKernel) async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      [kernel = kernel.rawValue as String] in
      var configuration = OldKernel(rawValue: kernel)!.configuration(.eventLoop)
      configuration.handlerThreads = 1
      let runtime = try FaultRuntime(configuration)
      let regions = try (0..<17).map { _ in
        try runtime.map(patternProvider(), byteCount: pageBytes, options: RegionOptions(name: "left"))
      }
      guard let (left, open) = Self.closeAtLimit(regions) else { _exit(0) }
      guard open.allSatisfy({ $0.access(0) == .byte(expectedByte(0)) }) else { _exit(0) }
      _ = read(left.core.range.start)
      _exit(0)
    }
    let text = result.errors
    #expect(text.contains("region 'left', page at offset 0"))
    #expect(text.contains("Linux 6.6 can"))
  }

  @Test(
    "What closing could not take away is forgotten when its runtime is gone",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: OldKernel.withoutPoison)
  func leftBehindToTheEnd(kernel: OldKernel) async {
    await #expect(processExitsWith: .success) { [kernel = kernel.rawValue as String] in
      var addresses: [UInt] = []
      do {
        var configuration = OldKernel(rawValue: kernel)!.configuration(.eventLoop)
        configuration.handlerThreads = 1
        let runtime = try FaultRuntime(configuration)
        let regions = try (0..<17).map { _ in try runtime.map(patternProvider(), byteCount: pageBytes) }
        guard let (left, open) = Self.closeAtLimit(regions) else { _exit(1) }
        addresses = open.map(\.address) + [left.core.range.start]
        guard AddressSpace.ofThisProcess.regions.count == addresses.count else { _exit(2) }
      }
      guard AddressSpace.ofThisProcess.regions.count == 0 else { _exit(3) }
      for address in addresses {
        var note: UInt8 = 0
        #expect(unsafe KernelErrno(returned: cuffd_residency(UInt64(address), pageBytes, &note)) == .noMemory)
      }
    }
  }

  @Test(
    "Memory that closing could not take away stays where a thread of the pool holds it, and nothing waits for that",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: OldKernel.withoutPoison)
  func leftBehindToStuckThread(kernel: OldKernel) async {
    await #expect(processExitsWith: .success) { [kernel = kernel.rawValue as String] in
      let gate = Gate()
      do {
        var configuration = OldKernel(rawValue: kernel)!.configuration(.eventLoop, poisonFallback: .keepWaiting)
        configuration.handlerThreads = 1
        configuration.closeTimeout = .milliseconds(100)
        let runtime = try FaultRuntime(configuration)
        let asked = Requests()
        let regions = try (0..<9).map { _ in
          try runtime.map(
            ClosureProvider { request, _ in
              asked.add(request)
              gate.wait()
              return .zero
            }, byteCount: pageBytes)
        }.sorted { $0.address < $1.address }
        // Each region that is closed has a thread that never gets its page, and one of the pool in its provider.
        for index in [1, 3, 5, 7] {
          let address = regions[index].address
          _ = TestThread { _ = read(address) }
        }
        #expect(eventually { asked.all.count == 4 })
        guard Self.closeAtLimit(regions) != nil else { _exit(1) }
      }
      gate.open()
      #expect(eventually { runtimeThreads(named: "fault-pool").isEmpty })
    }
  }

  @Test(
    "What does not come in time keeps waiting too, and its late answer is dropped", arguments: OldKernel.withoutPoison)
  func timeout(kernel: OldKernel) throws {
    let gate = Gate()
    let runtime = try FaultRuntime(kernel.configuration(.eventLoop, poisonFallback: .keepWaiting))
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage) { request, page in
        if request.offset == pageBytes { gate.wait() }
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 3 * pageBytes, options: RegionOptions(timeout: .milliseconds(300)))
    let outcomes = Monitor<[Access]>([])
    let threads = Self.threadsReading([region.address + UInt(pageBytes)], into: outcomes)
    #expect(eventually { region.failure(at: pageBytes) != nil })
    gate.open()
    #expect(eventually { runtime.statistics.lateAnswers == 1 })
    #expect(outcomes.withLock { $0 }.isEmpty)
    #expect(!region.isResident(pageBytes))
    #expect(eventually { (try? region.retry(0..<(3 * pageBytes))) != nil })
    #expect(threads[0].join())
    #expect(eventually { (try? region.populate()) != nil })
    #expect(mismatches(in: region) == [])
  }

  @Test(
    "Memory that was moved does not read as zero: the program ends, or the access waits until closing",
    arguments: OldKernel.withoutPoison)
  func moved(kernel: OldKernel) async throws {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      [kernel = kernel.rawValue as String] in
      let region = try FaultRuntime(OldKernel(rawValue: kernel)!.configuration(.eventLoop)).map(
        patternProvider(), byteCount: 2 * pageBytes, options: RegionOptions(name: "mine"))
      let target = Scratch(pages: 2)
      #expect(cts_move_mapping(region.address, 2 * pageBytes, target.range.start) == 0)
      _ = read(target.range.start)
      _exit(0)
    }
    let text = result.errors
    #expect(text.contains("region 'mine', page at offset 0"))
    #expect(text.contains("Linux 6.6 can"))

    let region = try FaultRuntime(kernel.configuration(.eventLoop, poisonFallback: .keepWaiting)).map(
      patternProvider(), byteCount: 4 * pageBytes)
    #expect(region.access(0) == .byte(expectedByte(0)))
    let target = Scratch(pages: 2)
    #expect(cts_move_mapping(region.address, 2 * pageBytes, target.range.start) == 0)
    #expect(read(target.range.start + 3) == .byte(expectedByte(3)))
    let outcomes = Monitor<[Access]>([])
    let threads = Self.threadsReading([target.range.start + UInt(pageBytes)], into: outcomes)
    #expect(eventually { region.failure(at: pageBytes) != nil })
    #expect(outcomes.withLock { $0 }.isEmpty)
    region.close()
    #expect(threads[0].join())
    #expect(outcomes.withLock { $0 } == [.signal(SIGSEGV)])
  }

  // MARK: Refused

  @Test("An error names the kernel that has what is missing")
  func refused() throws {
    var configuration = FaultRuntimeConfiguration(delivery: .sigbus)
    configuration.withheldFeatures = .sigbus
    let missing = #expect(throws: FaultRuntimeError.self) { try FaultRuntime(configuration) }
    #expect(missing?.code == .featureMissing)
    #expect(missing?.description.contains("UFFD_FEATURE_SIGBUS; it needs Linux 4.14") == true)
    // `HostDiagnosisTests` checks the messages for other kernels than this one.
  }
}
