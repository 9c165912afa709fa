import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Life and death around a fault", .timeLimit(.minutes(6)))
struct LifeTests {
  /// A provider that waits at a gate for page 0, and answers at once for every other page.
  private static func gated(_ gate: Gate, asked: Requests = Requests(), mayBlock: Bool = true) -> ClosureProvider {
    ClosureProvider(requestSize: .singlePage, permissions: mayBlock ? .standard : .onHandler) { request, page in
      asked.add(request)
      if request.offset == 0 { gate.wait() }
      page.append(expectedBytes(request.range))
      return .filled
    }
  }

  // MARK: Signals

  @Test(
    "A system call that waits in a fault while a signal is pending asks over and over, and gets its bytes in the end",
    .enabled(if: Host.kernelModeFaults, SkipReason.kernelModeFaults))
  func storm() throws {
    let gate = Gate()
    let asked = Requests()
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop, needsSystemCalls: true))
    let region = try runtime.map(Self.gated(gate, asked: asked), byteCount: 2 * pageBytes)
    let address = region.address
    let writer = Monitor<CInt>(0)
    let isDone = Atomic<Bool>(false)
    let thread = TestThread {
      cts_unblock_signals()
      writer.withLock { $0 = cts_thread_id() }
      var copy = [UInt8](repeating: 0, count: pageBytes)
      #expect(unsafe cts_write_to_pipe(address, copy.count, &copy) == copy.count)
      #expect(copy == expectedBytes(0..<pageBytes))
      isDone.store(true, ordering: .relaxed)
    }
    #expect(eventually { waiters(on: region.descriptorNumber).all == 1 })
    #expect(cts_count_signals(writer.withLock { $0 }) == 0)
    #expect(eventually { runtime.statistics.faults > 1000 })
    let wasDone = isDone.load(ordering: .relaxed)
    #expect(!wasDone)
    // The provider is asked once, and the requests in flight keep one entry, however often the kernel reports the
    // fault.
    #expect(asked.all.count == 1)
    guard let loop = region.eventLoop else { return }
    #expect(loop.inFlight.waitingPages(of: region.core) <= 2)
    gate.open()
    #expect(thread.join())
  }

  @Test("A thread that is interrupted while it waits handles its signals and goes on waiting")
  func interrupted() throws {
    let gate = Gate()
    let region = try FaultRuntime().map(Self.gated(gate), byteCount: pageBytes)
    let address = region.address
    let number = Monitor<CInt>(0)
    let thread = TestThread {
      cts_unblock_signals()
      number.withLock { $0 = cts_thread_id() }
      #expect(read(address) == .byte(expectedByte(0)))
    }
    #expect(eventually { waiters(on: region.descriptorNumber).all == 1 })
    for _ in 1...20 { #expect(cts_count_signals(number.withLock { $0 }) == 0) }
    gate.open()
    #expect(thread.join())
    #expect(cts_signal_count() >= 1)
  }

  @Test("A thread that dies while it waits takes nobody with it")
  func dyingThread() throws {
    let gate = Gate()
    let region = try FaultRuntime().map(Self.gated(gate), byteCount: 2 * pageBytes)
    let victim = unsafe cts_start_reader(region.address)
    #expect(eventually { waiters(on: region.descriptorNumber).all == 1 })
    #expect(unsafe cts_cancel_and_join(victim) == 0)
    #expect(waiters(on: region.descriptorNumber).all == 0)
    gate.open()
    #expect(mismatches(in: region) == [])
  }

  // MARK: Ends of the process

  @Test("A program may exit while threads wait in faults", arguments: [false, true])
  func exitWhilePending(mayBlock: Bool) async {
    await #expect(processExitsWith: .exitCode(7)) { [mayBlock = mayBlock as Bool] in
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop))
      let region = try runtime.map(LifeTests.gated(Gate(), mayBlock: mayBlock), byteCount: pageBytes)
      let address = region.address
      let threads = (0..<3).map { _ in TestThread { _ = read(address) } }
      #expect(eventually { waiters(on: region.descriptorNumber).all == 3 })
      withExtendedLifetime((region, threads)) { exit(7) }
    }
  }

  @Test("A program may become another while threads wait in faults, and have children that do")
  func executing() async {
    await #expect(processExitsWith: .success) {
      let region = try FaultRuntime().map(LifeTests.gated(Gate()), byteCount: 2 * pageBytes)
      let address = region.address
      let thread = TestThread { _ = read(address) }
      #expect(eventually { waiters(on: region.descriptorNumber).all == 1 })
      let program = unsafe open("/bin/true", O_RDONLY | O_CLOEXEC)
      var child = program
      let code = unsafe withUnsafeMutablePointer(to: &child) { pointer in
        unsafe cts_forked({ unsafe cts_execute($0.load(as: CInt.self), "true", "") }, pointer)
      }
      #expect(code == 0)
      #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
      withExtendedLifetime((region, thread)) { _ = unsafe cts_execute(program, "true", "") }
      exit(1)
    }
  }

  // MARK: Closing

  @Test(
    "Closing from several threads while others touch and prefetch: the right bytes, a signal or an error, never zeros",
    arguments: Delivery.ofRegions, [false, true])
  func closeInTheMiddle(delivery: Delivery, mayBlock: Bool) throws {
    for round in 0..<20 {
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
      let pages = 256
      let region = try runtime.map(
        patternProvider(
          seed: round, requestSize: RequestSize(preferred: 1, largest: 8 * pageBytes), mayBlock: mayBlock,
          inFaultingThread: true), byteCount: pages * pageBytes)
      let address = region.address
      let wrong = Monitor<[Access]>([])
      let started = Atomic<Int>(0)
      let touchers = (0..<2).map { index in
        TestThread {
          for page in 0..<pages {
            let offset = (page * 7 + index * 13) % pages * pageBytes
            let outcome = read(address + UInt(offset))
            if page == 3 { started.wrappingAdd(1, ordering: .relaxed) }
            switch outcome {
            case .byte(expectedByte(offset, seed: round)), .signal(SIGBUS), .signal(SIGSEGV): break
            default: wrong.withLock { $0.append(outcome) }
            }
          }
        }
      }
      let prefetcher = TestThread {
        do throws(FaultRuntimeError) {
          try region.populate()
        } catch {
          // A page that fails because of closing is right as well.
          #expect(error.code == .regionClosed || error.code == .pageFailed)
        }
        started.wrappingAdd(1, ordering: .relaxed)
      }
      #expect(eventually { started.load(ordering: .relaxed) >= 1 })
      let closers = (0..<3).map { _ in TestThread { region.close() } }
      for thread in touchers + [prefetcher] + closers { #expect(thread.join()) }
      #expect(wrong.withLock { $0 } == [])
      #expect(read(address) == .signal(SIGSEGV))
      #expect(runtime.regionCount == 0)
    }
  }

  @Test("A provider may let go of the last of its region and runtime")
  func lastReferenceInProvider() async {
    await #expect(processExitsWith: .success) {
      let holder = Monitor<LazyRegion?>(nil)
      let region = try FaultRuntime().map(
        ClosureProvider { request, page in
          holder.withLock { $0 = nil }
          page.append(repeating: 5, count: request.byteCount)
          return .filled
        }, byteCount: pageBytes)
      let address = region.address
      holder.withLock { $0 = region }
      _ = consume region
      let outcome = read(address)
      #expect([.byte(5), .signal(SIGBUS), .signal(SIGSEGV)].contains(outcome))
      #expect(eventually { runtimeThreads().isEmpty })
    }
  }

  // MARK: Many

  @Test(
    "Two runtimes whose regions are neighbours serve each its own", arguments: Delivery.ofRegions)
  func neighbours(delivery: Delivery) async {
    // The process is a new one, so that no other test takes the places beside the regions.
    switch delivery {
    case .eventLoop: await #expect(processExitsWith: .success) { try checkNeighbours(.eventLoop) }
    case .sigbus: await #expect(processExitsWith: .success) { try checkNeighbours(.sigbus) }
    default: await #expect(processExitsWith: .success) { try checkNeighbours(.sigsegv) }
    }
  }

  @Test("Ten thousand regions", arguments: Delivery.ofRegions)
  func tenThousand(delivery: Delivery) async {
    // Other tests of this process need mappings as well.
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!))
      let count = 10_000
      var regions: [LazyRegion] = []
      for index in 0..<count {
        regions.append(try runtime.map(patternProvider(seed: index, inFaultingThread: true), byteCount: 3 * pageBytes))
      }
      #expect(runtime.regionCount == count)
      for index in stride(from: 0, to: count, by: 7) {
        #expect(regions[index].access(pageBytes + 1) == .byte(expectedByte(pageBytes + 1, seed: index)))
      }
      for index in stride(from: 0, to: count, by: 2) { regions[index].close() }
      #expect(runtime.regionCount == count / 2)
      for index in stride(from: 1, to: count, by: 98) {
        #expect(regions[index].access(2 * pageBytes) == .byte(expectedByte(2 * pageBytes, seed: index)))
      }
      regions.removeAll()
      #expect(runtime.regionCount == 0)
    }
  }

  // MARK: Memory

  @Test(
    "At the limit of mappings the error names it, and what is open goes on",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func mapCount() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop))
      let open = try runtime.map(patternProvider(), byteCount: 4 * pageBytes)
      let used = cts_use_up_mappings()
      #expect(used > 0)
      var error: FaultRuntimeError?
      for _ in 0..<8 where error == nil {
        do throws(FaultRuntimeError) {
          _ = try runtime.map(patternProvider(), byteCount: 4 * pageBytes)
        } catch let thrown {
          error = thrown
        }
      }
      #expect(error?.code == .cannotMap || error?.code == .cannotRegister)
      #expect(error?.errno == .noMemory)
      #expect(error?.description.contains("vm.max_map_count") == true)
      #expect(mismatches(in: open) == [])
      let address = open.address
      open.close()
      #expect(read(address) == .signal(SIGSEGV))
    }
  }

  @Test(
    "At the limit of a memory cgroup the page fails with an error that names it, and comes when there is room",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison),
    .enabled(if: Cgroup.isWritable, SkipReason.cgroup), .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func memoryLimit() async {
    await #expect(processExitsWith: .success) {
      cts_keep_heap()
      let failures = Requests()
      let runtime = try FaultRuntime(
        FaultRuntimeConfiguration(
          delivery: .eventLoop, handlerThreads: 1,
          onFailure: { failures.add(PageRequest(offset: $0.offset, byteCount: $0.byteCount)) }))
      let warm = try runtime.map(
        ClosureProvider(permissions: .onHandler) { _, _ in throw Refused() }, byteCount: pageBytes)
      #expect(warm.access(0) == .signal(SIGBUS))
      let pages = (64 << 20) / pageBytes
      let source = [UInt8](repeating: 0x5a, count: pageBytes)
      let region = try runtime.map(
        ClosureProvider(requestSize: .singlePage, permissions: .onHandler) { request, page in
          page.append(source)
          return .filled
        }, byteCount: pages * pageBytes, options: RegionOptions(name: "large", advice: .random))
      // At the limit, a thread that touches new memory stops for ever, and so would the threads of the runtime.
      #expect(cts_lock_memory() == 0)
      let group = try Cgroup()
      try group.enter(limit: 24 << 20)
      var failed: Int?
      for page in 0..<pages where failed == nil {
        let outcome = region.access(page * pageBytes)
        if outcome != .byte(0x5a) {
          #expect(outcome == .signal(SIGBUS))
          failed = page
        }
      }
      try group.setLimit(1 << 30)
      let page = try #require(failed)
      #expect(failures.all.last?.offset == page * pageBytes)
      let failure = try #require(region.failure(at: page * pageBytes))
      #expect(failure.cause as? ResolutionError == .refused(.noMemory))
      #expect(failure.description.contains("cgroup"))
      try region.retry(0..<(pages * pageBytes))
      #expect(region.access(page * pageBytes) == .byte(0x5a))
      #expect(region.access((pages - 1) * pageBytes) == .byte(0x5a))
      group.leave()
    }
  }
}

/// Maps regions of two runtimes in turn until two of them have neighbouring addresses. The kernel places mappings
/// side by side as long as no other code of the process maps memory.
private func checkNeighbours(_ delivery: Delivery) throws {
  let runtimes = try (0..<2).map { _ in try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery)) }
  var regions: [LazyRegion] = []
  var areNeighbours = false
  for _ in 0..<20 where !areNeighbours {
    regions = try (0..<16).map { index in
      try runtimes[index % 2].map(patternProvider(seed: index, inFaultingThread: true), byteCount: 2 * pageBytes)
    }
    let starts = Set(regions.map(\.address))
    areNeighbours = starts.contains { starts.contains($0 + UInt(2 * pageBytes)) }
  }
  // With `sigsegv`, the second mapping of a region may lie between the region and the next one.
  if delivery != .sigsegv { #expect(areNeighbours) }
  for (index, region) in regions.enumerated() { #expect(mismatches(in: region, seed: index) == []) }
  for index in 0..<8 { regions[2 * index].close() }
  for index in 0..<8 { #expect(mismatches(in: regions[2 * index + 1], seed: 2 * index + 1) == []) }
}

/// A memory cgroup for this process alone. It must be one of the first version of cgroups, where a lack of memory can
/// be an error instead of the end of the process.
private struct Cgroup {
  private static let root = "/sys/fs/cgroup/memory"
  static let isWritable =
    unsafe access(root + "/cgroup.procs", W_OK) == 0 && access(root + "/memory.oom_control", F_OK) == 0

  private let path = "\(Self.root)/fault-runtime-\(getpid())"

  init() throws { try #require(unsafe mkdir(path, 0o700) == 0) }

  func enter(limit: Int) throws {
    try setLimit(limit)
    try write("1", to: "memory.oom_control")
    try write("\(getpid())", to: "cgroup.procs")
  }

  func setLimit(_ bytes: Int) throws { try write("\(bytes)", to: "memory.limit_in_bytes") }

  func leave() {
    try? write("\(getpid())", to: "../cgroup.procs")
    unsafe rmdir(path)
  }

  private func write(_ text: String, to file: String) throws {
    let descriptor = unsafe open("\(path)/\(file)", O_WRONLY | O_CLOEXEC)
    defer { close(descriptor) }
    try #require(descriptor >= 0)
    try #require(unsafe Glibc.write(descriptor, text, text.utf8.count) == text.utf8.count)
  }
}
