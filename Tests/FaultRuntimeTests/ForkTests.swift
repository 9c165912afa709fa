import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Forked children", .timeLimit(.minutes(6)))
struct ForkTests {
  static let deliveries: [Delivery] = [.eventLoop, .sigbus, .sigsegv]

  @Test("No memory of a child lands where a region of its parent is", arguments: deliveries)
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
    arguments: deliveries)
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

  @Test(
    "The memory of a child has a number of its own, also where its process id is that of its parent",
    // The address sanitizer looks for leaks with a thread, which this process could not start in the new namespace.
    .enabled(if: Host.isRoot, SkipReason.root), .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func addressSpace() async {
    await #expect(processExitsWith: .success) {
      let own = cuffd_address_space()
      #expect(own != 0)
      #expect(cuffd_address_space() == own)
      #expect(Self.childHasNumberOfItsOwn() == 0)
      // The first processes of two namespaces have the same process id.
      #expect(unsafe cts_as_first_process({ _ in Self.childHasNumberOfItsOwn() }, Self.anything) == 0)
    }
  }

  @Test("No signal handler of the program runs while a fork has the locks of the allocator", arguments: deliveries)
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

  @Test("The bytes of a region trap in a child, which says whose region it is", arguments: deliveries)
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
}
