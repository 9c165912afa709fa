import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Many threads", .timeLimit(.minutes(6)))
struct ConcurrencyTests {
  @Test("Threads on overlapping pages all read the right bytes", arguments: [1, 2, 3, 4, 8, 16])
  func overlappingPages(threadCount: Int) throws {
    var configuration = FaultRuntimeConfiguration()
    // Pages that are read ahead of a reader need no fault.
    configuration.streamDistance = 0
    let runtime = try FaultRuntime(configuration)
    let pages = 200
    let region = try runtime.map(
      patternProvider(seed: threadCount, requestSize: RequestSize(preferred: 2 * pageBytes, largest: 8 * pageBytes)),
      byteCount: pages * pageBytes)
    let wrong = Atomic<Int>(0)
    let threads = (0..<threadCount).map { index in
      TestThread {
        // Each thread walks all pages with a stride of its own, so that the threads compete for every page.
        let stride = [7, 11, 13, 17, 19, 23, 29, 31][index % 8]
        for step in 0..<pages {
          let offset = (step * stride + index) % pages * pageBytes + index
          if region.access(offset) != .byte(expectedByte(offset, seed: threadCount)) {
            wrong.wrappingAdd(1, ordering: .relaxed)
          }
        }
      }
    }
    for thread in threads { #expect(thread.join()) }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(region.failures.isEmpty)
    #expect(waiters(on: region.descriptorNumber).all == 0)
    #expect(runtime.statistics.faults >= pages / 8)
  }

  @Test("Hundreds of regions come and go while others fault", arguments: [1, 2])
  func churn(handlerThreads: Int) throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(handlerThreads: handlerThreads))
    let lasting = try runtime.map(patternProvider(seed: 1), byteCount: 2000 * pageBytes)
    let stop = Atomic<Bool>(false)
    let wrong = Atomic<Int>(0)

    let readers = (0..<2).map { index in
      TestThread {
        for step in 0..<2000 {
          let offset = (step * 3 + index * 1000) % 2000 * pageBytes + step
          if lasting.access(offset) != .byte(expectedByte(offset, seed: 1)) { wrong.wrappingAdd(1, ordering: .relaxed) }
        }
        stop.store(true, ordering: .relaxed)
      }
    }
    let mapped = Atomic<Int>(0)
    let churners = (0..<2).map { index in
      TestThread {
        var round = 0
        while round < 150 || !stop.load(ordering: .relaxed) {
          let seed = 10 + index * 1000 + round % 100
          guard let region = try? runtime.map(patternProvider(seed: seed), byteCount: (1 + round % 5) * pageBytes)
          else {
            wrong.wrappingAdd(1, ordering: .relaxed)
            return
          }
          let offset = round % 5 * pageBytes + round % 50
          if region.access(offset) != .byte(expectedByte(offset, seed: seed)) {
            wrong.wrappingAdd(1, ordering: .relaxed)
          }
          mapped.wrappingAdd(1, ordering: .relaxed)
          round += 1
        }
      }
    }
    for thread in readers + churners { #expect(thread.join()) }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(mapped.load(ordering: .relaxed) >= 300)
    #expect(runtime.regionCount == 1)
    #expect(mismatches(in: lasting, seed: 1).isEmpty)
  }

  @Test("Five hundred regions are open at once, each with its own bytes")
  func manyRegions() throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(handlerThreads: 2))
    let regions = try (0..<500).map { try runtime.map(patternProvider(seed: $0), byteCount: pageBytes + 1) }
    #expect(runtime.regionCount == 500)
    for (seed, region) in regions.enumerated().reversed() {
      #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes, seed: seed)))
    }
  }

  @Test(
    "Pages that are discarded behind the runtime's back are asked for again, through a storm of events",
    arguments: [true, false])
  func eventStorm(retriesAtOnce: Bool) throws {
    var configuration = FaultRuntimeConfiguration()
    configuration.additionalFeatures = .eventRemove
    // Without immediate retries, every EAGAIN is retried by the timer.
    if !retriesAtOnce { configuration.immediateRetries = 0 }
    configuration.handlerThreads = 1
    let runtime = try FaultRuntime(configuration)
    let pages = 32
    let gate = Gate()
    let requests = Requests()
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: .onHandler) { request, page in
        requests.add(request)
        gate.wait()
        page.append(request.range.lazy.map { expectedByte($0) })
        return .filled
      }, byteCount: pages * pageBytes)
    let address = region.address

    // The first event certainly comes between the reading of a fault and its answer.
    let first = TestThread { #expect(read(address) == .byte(expectedByte(0))) }
    #expect(eventually { requests.all.count == 1 })
    let discard = unsafe cts_discard_on_thread(address + UInt(pageBytes), pageBytes)
    #expect(eventually { hasUnreadEvent(region.descriptorNumber) })
    gate.open()
    #expect(first.join())
    unsafe cts_join(discard)
    // The kernel has answered with EAGAIN.
    #expect(runtime.statistics.deferrals > 0)

    // After that, there are as many events as possible.
    let wrong = Atomic<Int>(0)
    let isDone = Atomic<Bool>(false)
    let progress = Atomic<Int>(0)
    let readers = (0..<3).map { index in
      TestThread {
        var step = 0
        while !isDone.load(ordering: .relaxed) {
          let offset = (step * 7 + index) % pages * pageBytes
          if read(address + UInt(offset)) != .byte(expectedByte(offset)) { wrong.wrappingAdd(1, ordering: .relaxed) }
          progress.wrappingAdd(1, ordering: .relaxed)
          step += 1
        }
      }
    }
    let discarder = TestThread {
      var step = 0
      while !isDone.load(ordering: .relaxed) {
        let start = unsafe UnsafeMutableRawPointer(bitPattern: address + UInt(step * 5 % pages * pageBytes))
        let before = progress.load(ordering: .relaxed)
        unsafe madvise(start, pageBytes, MADV_DONTNEED)
        step += 1
        // Between two events the kernel resolves nothing. A thread that only causes events would starve all other
        // threads, so this one lets them take a step in between.
        while progress.load(ordering: .relaxed) == before, !isDone.load(ordering: .relaxed) { sched_yield() }
      }
    }
    // There are more faults than pages, so some of them are for pages that were resident before.
    #expect(eventually { progress.load(ordering: .relaxed) > 1500 && runtime.statistics.faults > 4 * pages })
    isDone.store(true, ordering: .relaxed)
    for thread in readers + [discarder] { #expect(thread.join()) }
    #expect(wrong.load(ordering: .relaxed) == 0)
    #expect(region.failures.isEmpty)
  }
}

@Suite("Presence and absence that others cause", .timeLimit(.minutes(6)))
struct InterferenceTests {
  /// A runtime whose only handler is blocked in a provider until the gate opens, so that faults stay unread
  /// meanwhile.
  private struct Held {
    let runtime: FaultRuntime
    let gate = Gate()
    let holding: TestThread

    init(_ configuration: FaultRuntimeConfiguration = FaultRuntimeConfiguration()) throws {
      var configuration = configuration
      configuration.handlerThreads = 1
      runtime = try FaultRuntime(configuration)
      let entered = Requests()
      let region = try runtime.map(
        ClosureProvider(permissions: .onHandler) { [gate] request, page in
          entered.add(request)
          gate.wait()
          page.append(repeating: 1, count: request.byteCount)
          return .filled
        }, byteCount: pageBytes)
      holding = TestThread { #expect(region.access(0) == .byte(1)) }
      #expect(eventually { entered.all.count == 1 })
    }
  }

  @Test("A page that is there already wakes those who wait for it")
  func alreadyPresent() throws {
    let held = try Held()
    let region = try held.runtime.map(patternProvider(), byteCount: 2 * pageBytes)
    let victim = TestThread { #expect(region.access(pageBytes + 3) == .byte(0x33)) }
    #expect(eventually { waiters(on: region.descriptorNumber).unread == 1 })
    // The test fills the page through another way and wakes no thread.
    let other = Scratch(pages: 1)
    other.fill(0x33)
    try region.fillBehindItsBack(1, from: other)
    held.gate.open()
    #expect(victim.join())
    #expect(held.holding.join())
    #expect(held.runtime.statistics.pagesAlreadyPresent == 1)
    #expect(held.runtime.statistics.bytesFilled == pageBytes)
    #expect(region.failures.isEmpty)
  }

  @Test("A present page in the middle of a unit is stepped over, and keeps its bytes")
  func presentInTheMiddle() throws {
    let runtime = try FaultRuntime()
    let region = try runtime.map(
      patternProvider(requestSize: RequestSize(preferred: 8 * pageBytes, largest: 8 * pageBytes)),
      byteCount: 8 * pageBytes)
    let other = Scratch(pages: 1)
    other.fill(0x44)
    for index in [2, 3, 6] { try region.fillBehindItsBack(index, from: other) }
    #expect(region.access(0) == .byte(expectedByte(0)))
    for index in 0..<8 {
      let offset = index * pageBytes + 9
      #expect(region.access(offset) == .byte([2, 3, 6].contains(index) ? 0x44 : expectedByte(offset)))
    }
    #expect(runtime.statistics.faults == 1)
    #expect(runtime.statistics.pagesAlreadyPresent == 3)
    #expect(runtime.statistics.bytesFilled == 5 * pageBytes)
  }

  @Test("A unit across two mappings is resolved page by page", arguments: [1, 4])
  func splitMapping(preferred: Int) throws {
    let runtime = try FaultRuntime()
    let region = try runtime.map(
      patternProvider(requestSize: RequestSize(preferred: preferred * pageBytes, largest: 8 * pageBytes)),
      byteCount: 8 * pageBytes)
    // One page in the middle of a unit becomes a mapping of its own.
    let part = unsafe UnsafeMutableRawPointer(bitPattern: region.address + UInt(2 * pageBytes))
    #expect(unsafe mprotect(part, pageBytes, PROT_READ) == 0)
    #expect(mismatches(in: region) == [])
    #expect(region.failures.isEmpty)
  }

  @Test("A part that was unmapped behind the runtime's back is a signal, and the rest stays right")
  func unmappedPart() throws {
    let runtime = try FaultRuntime()
    let region = try runtime.map(
      patternProvider(requestSize: RequestSize(preferred: 4 * pageBytes, largest: 8 * pageBytes)),
      byteCount: 8 * pageBytes)
    // A guard mapping replaces the page at once. In a hole, the kernel could place memory of another thread, which
    // would then be unmapped with the region.
    let part = unsafe UnsafeMutableRawPointer(bitPattern: region.address + UInt(pageBytes))
    let flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS
    #expect(unsafe mmap(part, pageBytes, PROT_NONE, flags, -1, 0) == part)
    for index in 0..<8 where index != 1 {
      #expect(region.access(index * pageBytes) == .byte(expectedByte(index * pageBytes)))
    }
    #expect(region.access(pageBytes) == .signal(SIGSEGV))
  }

  @Test("When the kernel says EAGAIN beyond the timeout, the page fails, and is reported once")
  func deadline() throws {
    var configuration = FaultRuntimeConfiguration(resolveTimeout: .zero)
    configuration.additionalFeatures = .eventRemove
    configuration.immediateRetries = 0
    configuration.handlerThreads = 1
    let runtime = try FaultRuntime(configuration)
    let gate = Gate()
    let requests = Requests()
    let region = try runtime.map(
      ClosureProvider(permissions: .onHandler) { request, page in
        requests.add(request)
        if request.offset == 0 { gate.wait() }
        page.append(request.range.lazy.map { expectedByte($0) })
        return .filled
      }, byteCount: 4 * pageBytes)
    let victim = TestThread { #expect(region.access(0) == .signal(SIGBUS)) }
    #expect(eventually { requests.all.count == 1 })
    // While the provider works, an event arrives that no thread reads before the copy.
    let discard = unsafe cts_discard_on_thread(region.address + UInt(3 * pageBytes), pageBytes)
    #expect(eventually { hasUnreadEvent(region.descriptorNumber) })
    gate.open()
    #expect(victim.join())
    unsafe cts_join(discard)
    #expect(region.failures.map(\.offset) == [0])
    #expect(region.failures.first?.cause as? ResolutionError == .resolveTimedOut)
    #expect(runtime.statistics.pagesFailed == 1)
    #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
  }

  @Test("Closing one region is not held up by threads that keep faulting on another")
  func closeUnderLoad() throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(handlerThreads: 1, closeTimeout: .seconds(25)))
    let pages = 100_000
    let readerCount = 3
    let isDone = Atomic<Bool>(false)
    let next = Atomic<Int>(0)
    let descriptor = Atomic<CInt>(-1)
    let busy = try runtime.map(
      ClosureProvider(requestSize: .singlePage) { request, page in
        // Each fault is answered only when the other threads wait again.
        eventually {
          waiters(on: descriptor.load(ordering: .relaxed)).all == readerCount || isDone.load(ordering: .relaxed)
            || next.load(ordering: .relaxed) >= pages
        }
        page.append(repeating: 1, count: request.byteCount)
        return .filled
      }, byteCount: pages * pageBytes)
    descriptor.store(busy.descriptorNumber, ordering: .relaxed)
    let readers = (0..<readerCount).map { _ in
      TestThread {
        while !isDone.load(ordering: .relaxed) {
          let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
          if index >= pages { return }
          _ = busy.access(index * pageBytes)
        }
      }
    }
    #expect(eventually { next.load(ordering: .relaxed) > 10 })
    for _ in 0..<5 {
      let region = try runtime.map(patternProvider(), byteCount: pageBytes)
      let before = next.load(ordering: .relaxed)
      region.close()
      // The limit is a number of faults and not of seconds. A handful of them was queued before.
      #expect(next.load(ordering: .relaxed) - before < 1000)
    }
    isDone.store(true, ordering: .relaxed)
    for reader in readers { #expect(reader.join()) }
  }
}
