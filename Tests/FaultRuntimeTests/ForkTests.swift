import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Forked children", .timeLimit(.minutes(6)))
struct ForkTests {
  @Test("No memory of a child lands where a region of its parent is", arguments: Delivery.ofRegions)
  func gap(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!))
      let region = try runtime.map(patternProvider(inFaultingThread: true), byteCount: 4096 * pageBytes)
      #expect(region.access(0) == .byte(expectedByte(0)))
      let result = unsafe cts_forked(
        { context in
          cts_end_after(20)
          let start = UInt(bitPattern: context)
          // More memory than any other gap has takes the place of the region if that is free.
          for size in [4096, 4095, 1024, 64, 1] {
            for _ in 0..<32 {
              let memory = unsafe mmap(
                nil, size * pageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
              let address = UInt(bitPattern: memory)
              if address < start + UInt(4096 * pageBytes), address + UInt(size * pageBytes) > start { return 1 }
            }
          }
          for page in stride(from: 0, to: 4096, by: 64)
          where TestSupport.read(start + UInt(page * pageBytes)) != .signal(SIGSEGV) { return 2 }
          return 0
        }, UnsafeMutableRawPointer(bitPattern: region.address)!)
      #expect(result == 0)
    }
  }

  @Test(
    "Where the program lets a region be inherited (MADV_DOFORK), the child has what docs/limits.md says",
    arguments: Delivery.ofRegions)
  func inherited(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      let delivery = Delivery(rawValue: name)!
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
      let region = try runtime.map(
        patternProvider(inFaultingThread: true), byteCount: 2 * pageBytes, options: RegionOptions(advice: .random))
      #expect(region.access(0) == .byte(expectedByte(0)))
      let hasLifted = unsafe madvise(
        UnsafeMutableRawPointer(bitPattern: region.address), 2 * pageBytes, MADV_DOFORK)
      #expect(hasLifted == 0)
      /// The first byte of a page in the child, or 1,000 for SIGSEGV.
      func byteInChild(of page: Int) -> CInt {
        let result = unsafe cts_forked(
          { context in
            cts_end_after(20)
            let outcome = TestSupport.read(UInt(bitPattern: context))
            if outcome == .signal(SIGSEGV) { kill(getpid(), SIGKILL) }
            guard case .byte(let byte) = outcome else { exit(255) }
            return CInt(byte)
          }, UnsafeMutableRawPointer(bitPattern: region.address + UInt(page * pageBytes))!)
        return result == -SIGKILL ? 1_000 : result
      }
      #expect(byteInChild(of: 0) == CInt(expectedByte(0)))
      #expect(byteInChild(of: 1) == (delivery == .sigsegv ? 1_000 : 0))
      // The parent is as before.
      #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
      #expect(byteInChild(of: 1) == CInt(expectedByte(pageBytes)))
    }
  }

  @Test("The memory of a child has a number of its own")
  func addressSpace() async {
    await #expect(processExitsWith: .success) {
      let own = cuffd_address_space()
      #expect(own != 0)
      #expect(cuffd_address_space() == own)
      #expect(Self.childHasNumberOfItsOwn() == 0)
    }
  }

  @Test(
    "A child owns nothing of its parent, also where both are the first process of their PID namespace",
    // The address sanitizer looks for leaks with a thread, which a process cannot start once it has asked for a new
    // namespace. ThreadSanitizer starts no threads in the child of a process with threads.
    .enabled(if: Host.isRoot, SkipReason.root), .enabled(if: !Host.isSanitized, SkipReason.sanitizer),
    arguments: Delivery.ofRegions)
  func sameProcessNumber(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      let index = Delivery.ofRegions.firstIndex(of: Delivery(rawValue: name)!)!
      let result = unsafe cts_as_first_process(
        { context in
          guard let family = try? Family(Delivery.ofRegions[Int(bitPattern: context) - 1]) else { return 1 }
          return family.liveAsParent()
        }, UnsafeMutableRawPointer(bitPattern: index + 1)!)
      #expect(result == 0)
    }
  }

  @Test(
    "A child makes a runtime of its own while its parent maps and closes regions",
    // ThreadSanitizer starts no threads in the child of a process with threads.
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: Delivery.ofRegions)
  func whileMapping(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      let delivery = Delivery(rawValue: name)!
      let index = Delivery.ofRegions.firstIndex(of: delivery)!
      // Swift's runtime has locks that it takes when it looks something up for the first time (docs/limits.md). What
      // the children do is done here first, so that they need no lock but those of the library.
      #expect(Self.useOwnRuntime(delivery) == 0)
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
      let isDone = Atomic<Bool>(false)
      let rounds = Atomic<Int>(0)
      let mistakes = Atomic<Int>(0)
      let mapping = TestThread {
        while !isDone.load(ordering: .relaxed) {
          if !Self.mapAndClose(in: runtime) { mistakes.wrappingAdd(1, ordering: .relaxed) }
          rounds.wrappingAdd(1, ordering: .relaxed)
        }
      }
      #expect(eventually { rounds.load(ordering: .relaxed) > 0 })
      for _ in 0..<100 {
        let result = unsafe cts_forked(
          { context in
            cts_end_after(20)
            return Self.useOwnRuntime(Delivery.ofRegions[Int(bitPattern: context) - 1])
          }, UnsafeMutableRawPointer(bitPattern: index + 1)!)
        #expect(result == 0)
        // Each child that hangs takes all of its time.
        if result != 0 { break }
      }
      isDone.store(true, ordering: .relaxed)
      #expect(mapping.join())
      #expect(mistakes.load(ordering: .relaxed) == 0)
    }
  }

  @Test(
    "No signal handler of the program runs while a fork has the locks of the allocator", arguments: Delivery.ofRegions)
  func signalsHeld(delivery: Delivery) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String] in
      cts_watch_forks()
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!))
      let region = try runtime.map(patternProvider(inFaultingThread: true), byteCount: pageBytes)
      #expect(cts_fork_holds_signals())
      #expect(region.access(0) == .byte(expectedByte(0)))
    }
  }

  @Test("The bytes of a region trap in a child, which says whose region it is", arguments: Delivery.ofRegions)
  func bytes(delivery: Delivery) async {
    let result = await #expect(processExitsWith: .success, observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String] in
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!))
      let region = try runtime.map(
        patternProvider(inFaultingThread: true), byteCount: 4 * pageBytes, options: RegionOptions(name: "parent's"))
      let result = unsafe cts_forked(
        { context in
          for number in [SIGILL, SIGTRAP] { signal(number, SIG_DFL) }
          let region = unsafe Unmanaged<LazyRegion>.fromOpaque(context).takeUnretainedValue()
          return unsafe region.unsafeBytes.isEmpty ? 1 : 2
        }, Unmanaged.passUnretained(region).toOpaque())
      #expect(result == -SIGILL || result == -SIGTRAP)
      #expect(region.access(0) == .byte(expectedByte(0)))
    }
    #expect(result.errors.contains("LazyRegion 'parent's' belongs to the process that this one was forked from"))
  }

  @Test(
    "A child can name a provider while its parent names others",
    // The thread sanitizer has locks of its own for each lock, and in the child they stay as the fork has found them.
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func providerNames() async {
    await #expect(processExitsWith: .success) {
      // The first use has forks wait for the locks of the process.
      #expect(AddressSpace.ofThisProcess.regions.region(containing: 0) == nil)
      #expect(ProviderName.of(ZeroProvider()) == "ZeroProvider")
      let isDone = Atomic<Bool>(false)
      let naming = TestThread {
        while !isDone.load(ordering: .relaxed) { _ = ProviderName.of(ZeroProvider()) }
      }
      for _ in 0..<200 {
        let result = unsafe cts_forked(
          { _ in
            cts_end_after(20)
            return ProviderName.of(ZeroProvider()) == "ZeroProvider" ? 42 : 1
          }, Self.anything)
        #expect(result == 42)
        // Each child that hangs takes all of its time.
        if result != 42 { break }
      }
      isDone.store(true, ordering: .relaxed)
      #expect(naming.join())
    }
  }

  private static var anything: UnsafeMutableRawPointer { unsafe UnsafeMutableRawPointer(bitPattern: 1)! }

  private static func childHasNumberOfItsOwn() -> CInt {
    unsafe cts_forked(
      { context in cuffd_address_space() == UInt64(UInt(bitPattern: context)) ? 1 : 0 },
      UnsafeMutableRawPointer(bitPattern: UInt(cuffd_address_space()))!)
  }

  /// Makes a runtime, and maps, reads and closes regions of it. Returns 0 where all bytes are right.
  private static func useOwnRuntime(_ delivery: Delivery) -> CInt {
    guard let runtime = try? FaultRuntime(FaultRuntimeConfiguration(delivery: delivery)) else { return 1 }
    return mapAndClose(in: runtime) ? 0 : 2
  }

  /// Maps regions, reads and closes them. Returns whether all bytes are right.
  private static func mapAndClose(in runtime: FaultRuntime) -> Bool {
    // With the event loop, a handler asks one of the providers, and the pool asks the other one.
    for mayBlock in [false, true] {
      let provider = patternProvider(mayBlock: mayBlock, inFaultingThread: true)
      guard let region = try? runtime.map(provider, byteCount: 4 * pageBytes) else { return false }
      for offset in stride(from: 0, to: 4 * pageBytes, by: pageBytes)
      where region.access(offset) != .byte(expectedByte(offset)) { return false }
      region.close()
    }
    return true
  }
}

/// The regions of a process whose number is 1, and which has a child with the same number. Where ownership followed
/// from that number, the child would take the regions of its parent for its own.
private final class Family: Sendable {
  private static let pageCount = 8

  private let delivery: Delivery
  private let runtime: FaultRuntime
  private let regions: [LazyRegion]
  private let addresses: [UInt]
  private let space = cuffd_address_space()

  init(_ delivery: Delivery) throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
    let regions = try (0..<2).map { seed in
      try runtime.map(
        patternProvider(seed: seed, inFaultingThread: true), byteCount: Self.pageCount * pageBytes,
        options: RegionOptions(advice: .random))
    }
    self.delivery = delivery
    self.runtime = runtime
    self.regions = regions
    addresses = regions.map(\.address)
  }

  /// What the parent does. Returns 0 where nothing was taken away from it.
  func liveAsParent() -> CInt {
    guard getpid() == 1 else { return 2 }
    for (seed, region) in regions.enumerated() {
      if region.access(0) != .byte(expectedByte(0, seed: seed)) { return 3 }
    }
    // This process can start no thread from here on, because its children belong to another namespace.
    let result = unsafe cts_as_first_process(
      { context in unsafe Unmanaged<Family>.fromOpaque(context).takeUnretainedValue().liveAsChild() },
      Unmanaged.passUnretained(self).toOpaque())
    guard result == 0 else { return result > 0 ? result : 4 }
    for page in 0..<Self.pageCount {
      let offset = page * pageBytes
      if regions[0].access(offset) != .byte(expectedByte(offset)) { return 5 }
    }
    do throws(FaultRuntimeError) { try regions[1].populate() } catch { return 6 }
    for (seed, region) in regions.enumerated() {
      if !mismatches(in: region, seed: seed).isEmpty { return 7 }
    }
    return 0
  }

  /// What the child does. Returns 0 where it owns nothing of its parent, and can have regions of its own.
  func liveAsChild() -> CInt {
    guard getpid() == 1 else { return 20 }
    guard cuffd_address_space() != space else { return 21 }
    do throws(FaultRuntimeError) {
      _ = try runtime.map(ZeroProvider(), byteCount: pageBytes)
      return 22
    } catch {
      if error.code != .forkedChild { return 23 }
    }
    for (region, address) in zip(regions, addresses) {
      do throws(FaultRuntimeError) {
        try region.populate()
        return 24
      } catch {
        if error.code != .forkedChild { return 25 }
      }
      // The parent has the first page, and not yet the second one.
      for page in 0..<2 {
        if TestSupport.read(address + UInt(page * pageBytes)) != .signal(SIGSEGV) { return 26 }
      }
      region.close()
      if region.isClosed { return 27 }
    }
    guard
      let own = try? FaultRuntime(FaultRuntimeConfiguration(delivery: delivery)).map(
        patternProvider(seed: 2, inFaultingThread: true), byteCount: Self.pageCount * pageBytes)
    else { return 28 }
    return mismatches(in: own, seed: 2).isEmpty ? 0 : 29
  }
}
