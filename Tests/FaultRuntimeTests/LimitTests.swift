import CTestSupport
import CUFFD
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// Checks what happens at the limits of a process, and that the error names the limit which is the cause.
@Suite("Limits of a process", .timeLimit(.minutes(6)))
struct LimitTests {
  private static func runtime(_ delivery: Delivery) throws -> FaultRuntime {
    try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery, handlerThreads: 1, onNotice: { _ in }))
  }

  private static func provider() -> ClosureProvider { patternProvider(inFaultingThread: true) }

  /// Returns the error of mapping a region; nil where it could be mapped.
  private static func mapError(
    _ runtime: FaultRuntime, _ byteCount: Int, _ options: RegionOptions = RegionOptions()
  ) -> FaultRuntimeError? {
    do throws(FaultRuntimeError) {
      _ = try runtime.map(provider(), byteCount: byteCount, options: options)
      return nil
    } catch {
      return error
    }
  }

  // MARK: The limit of mappings

  @Test("A region with sigsegv costs three mappings of the budget, and gives them back")
  func regionsCount() throws {
    var configuration = FaultRuntimeConfiguration(delivery: .sigsegv, onNotice: { _ in })
    configuration.mappingLimit = 11
    configuration.guardsPages = false
    let runtime = try FaultRuntime(configuration)
    var regions = try (0..<3).map { _ in try runtime.map(Self.provider(), byteCount: 8 * pageBytes) }
    let error = Self.mapError(runtime, pageBytes)
    #expect(error?.code == .cannotMap)
    #expect(error?.errno == .noMemory)
    #expect(error?.advice?.contains("vm.max_map_count") == true)
    #expect(error?.advice?.contains("11 mappings") == true)
    // A run of open pages costs the two mappings that are left; the next one is joined to it.
    for page in [1, 5] { #expect(regions[0].access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
    #expect(regions[0].isResident(3 * pageBytes))
    regions.removeLast()
    // The place of the region is free, unless runs of pages take it.
    let budget = MappingBudget(limit: 6)
    try budget.addRegion()
    try budget.addRegion()
    #expect(throws: HostCallError.self) { try budget.addRegion() }
    budget.removeRegion()
    try budget.addRegion()
    #expect(regions.allSatisfy { mismatches(in: $0) == [] })
  }

  @Test("Runs of pages leave room for regions")
  func shareOfRegions() throws {
    let budget = MappingBudget(limit: 160)
    while !budget.isUsedUp { budget.add(1) }
    for _ in 0..<3 { try budget.addRegion() }
    #expect(throws: HostCallError.self) { try budget.addRegion() }
  }

  @Test(
    "Regions of sigsegv are refused while the process still has mappings, and all that were mapped work",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func processKeepsMappings() async {
    await #expect(processExitsWith: .success) {
      let runtime = try LimitTests.runtime(.sigsegv)
      let half = cuffd_mapping_limit() / 2
      // Most of the budget is taken, so that this does not need ten thousand regions.
      AddressSpace.ofThisProcess.mappings.add((half - 600) / 2)
      var regions: [LazyRegion] = []
      var error: FaultRuntimeError?
      while error == nil, regions.count < 1000 {
        do throws(FaultRuntimeError) {
          regions.append(try runtime.map(LimitTests.provider(), byteCount: 2 * pageBytes))
        } catch let thrown {
          error = thrown
        }
      }
      #expect((198...200).contains(regions.count))
      #expect(error?.code == .cannotMap)
      #expect(error?.advice?.contains("\(half) mappings, half of vm.max_map_count") == true)
      for region in regions { #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes))) }
      regions.removeAll()
      #expect(LimitTests.mapError(runtime, pageBytes) == nil)
    }
  }

  @Test(
    "At the kernel's limit of mappings the error names it, and no other limit",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: Delivery.ofRegions)
  func mappings(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      let runtime = try LimitTests.runtime(Delivery(rawValue: name)!)
      _ = cts_use_up_mappings()
      var error: FaultRuntimeError?
      for _ in 0..<8 where error == nil { error = LimitTests.mapError(runtime, 4 * pageBytes) }
      let text = error?.advice ?? ""
      let isRight = text.contains("vm.max_map_count") && !text.contains("RLIMIT") && !text.contains("cgroup")
      // Nothing after this point may make a mapping, so the process exits at once.
      if !isRight { _ = unsafe write(2, text, text.utf8.count) }
      _exit(isRight ? 0 : 1)
    }
  }

  @Test(
    "Where no buffer for a page can be mapped, the page's error names the limit of mappings",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func buffer() async {
    await #expect(processExitsWith: .success) {
      let runtime = try LimitTests.runtime(.eventLoop)
      let large = ClosureProvider(
        requestSize: RequestSize(preferred: 1 << 20, largest: 1 << 20), permissions: .onHandler
      ) { request, page in
        page.appendExpected(request)
        return .filled
      }
      let region = try runtime.map(large, byteCount: 4 << 20)
      _ = cts_use_up_mappings()
      var text = ""
      do throws(FaultRuntimeError) { try region.prefetch(0..<(1 << 20)) } catch { text = "\(error)" }
      let isRight = text.contains("vm.max_map_count") && !text.contains("cgroup")
      if !isRight { _ = unsafe write(2, text, text.utf8.count) }
      _exit(isRight ? 0 : 1)
    }
  }

  // MARK: Limits of address space, data, locked memory and files

  /// The numbers of the limits, of which the C library's header does not show all to Swift.
  private enum Resource: UInt32 {
    case fileSize = 1
    case data = 2
    case openFiles = 7
    case lockedMemory = 8
    case addressSpace = 9
  }

  private static func setLimit(_ resource: Resource, _ value: Int) throws {
    let resource = __rlimit_resource_t(resource.rawValue)
    var limit = rlimit()
    try #require(unsafe getrlimit(resource, &limit) == 0)
    // Only some processes may raise the upper end of a limit.
    limit.rlim_cur = min(limit.rlim_max, rlim_t(value))
    try #require(unsafe setrlimit(resource, &limit) == 0)
  }

  @Test(
    "RLIMIT_AS and RLIMIT_DATA are named where they are the cause",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: [Delivery.eventLoop, .sigbus])
  func sizes(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      let runtime = try LimitTests.runtime(Delivery(rawValue: name)!)
      let data = (number(of: "VmData", in: "/proc/self/status") ?? 0) * 1024
      // There has to be room for the stacks of threads that Swift's runtime may start.
      try LimitTests.setLimit(.data, data + (256 << 20))
      let error = LimitTests.mapError(runtime, 1 << 30)
      #expect(error?.code == .cannotMap)
      #expect(error?.errno == .noMemory)
      #expect(error?.advice?.contains("RLIMIT_DATA") == true)
      // The advice is true.
      #expect(LimitTests.mapError(runtime, 1 << 30, RegionOptions(access: .readOnly)) == nil)
      let size = (number(of: "VmSize", in: "/proc/self/status") ?? 0) * 1024
      try LimitTests.setLimit(.addressSpace, size + (512 << 20))
      let other = LimitTests.mapError(runtime, 1 << 30, RegionOptions(access: .readOnly))
      #expect(other?.errno == .noMemory)
      #expect(other?.advice?.contains("RLIMIT_AS") == true)
      #expect(other?.advice?.contains("RLIMIT_DATA") == false)
    }
  }

  @Test("RLIMIT_FSIZE is named where a region of sigsegv is longer")
  func fileSize() async {
    await #expect(processExitsWith: .success) {
      let runtime = try LimitTests.runtime(.sigsegv)
      try LimitTests.setLimit(.fileSize, 1 << 20)
      let error = LimitTests.mapError(runtime, 2 << 20)
      #expect(error?.code == .cannotMap)
      #expect(error?.errno == .fileTooLarge)
      #expect(error?.advice?.contains("RLIMIT_FSIZE is 1048576 bytes") == true)
      #expect(LimitTests.mapError(runtime, 1 << 20) == nil)
    }
  }

  @Test("Without a descriptor for the file of a region of sigsegv the error says so")
  func noFile() async {
    await #expect(processExitsWith: .success) {
      let runtime = try LimitTests.runtime(.sigsegv)
      try LimitTests.setLimit(.openFiles, 3)
      let error = LimitTests.mapError(runtime, pageBytes)
      try LimitTests.setLimit(.openFiles, 1024)
      #expect(error?.errno == .tooManyOpenFiles)
      #expect(error?.advice?.contains("RLIMIT_NOFILE") == true)
    }
  }

  @Test(
    "After mlockall(MCL_FUTURE) the error of a region beyond RLIMIT_MEMLOCK is the kernel's, and names that limit",
    .enabled(if: Host.isRoot, SkipReason.root), .enabled(if: !Host.isSanitized, SkipReason.sanitizer),
    arguments: Delivery.ofRegions)
  func lockedLimit(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      let runtime = try LimitTests.runtime(Delivery(rawValue: name)!)
      cts_keep_heap()
      try LimitTests.setLimit(.lockedMemory, 64 << 20)
      #expect(cts_become_nobody() == 0)
      #expect(cts_lock_future_memory() == 0)
      let error = LimitTests.mapError(runtime, 1 << 30)
      #expect(error?.code == .cannotMap)
      #expect(error?.errno == .resourceTemporarilyUnavailable)
      #expect(error?.advice?.contains("RLIMIT_MEMLOCK") == true)
      #expect(LimitTests.mapError(runtime, pageBytes) == nil)
      // A runtime needs threads and memory of its own.
      try LimitTests.setLimit(.lockedMemory, 64 << 10)
      let start = #expect(throws: FaultRuntimeError.self) { try LimitTests.runtime(Delivery(rawValue: name)!) }
      #expect(start?.advice?.contains("RLIMIT_MEMLOCK") == true, "\(start.map { "\($0)" } ?? "")")
    }
  }

  @Test("The cause of a refusal follows from the facts")
  func shortages() {
    var facts = MemoryFacts()
    func shortage(_ byteCount: Int = 1 << 20, _ errno: KernelErrno = .noMemory) -> MemoryShortage? {
      facts.shortage(mapping: byteCount, errno)
    }
    #expect(shortage() == .unknown)
    #expect(shortage(1 << 50) == .addresses)
    #expect(shortage(1, .invalidArgument) == nil)
    #expect(shortage(1, .tooManyOpenFilesInSystem) == .openFiles)
    facts = MemoryFacts(
      mappings: 100, mappingLimit: 65530, addressSpaceByteCount: 1 << 30, addressSpaceLimit: 2 << 30,
      dataByteCount: 1 << 20, dataLimit: 1 << 29, lockedByteCount: 4096, lockedLimit: 8 << 20)
    #expect(shortage() == .unknown)
    #expect(shortage(16 << 20) == .unknown, "nothing is locked")
    #expect(shortage(1 << 30) == .data(limit: 1 << 29))
    #expect(shortage(2 << 30) == .addressSpace(limit: 2 << 30))
    #expect(shortage(Int.max) == .addresses)
    #expect(shortage(1 << 20, .resourceTemporarilyUnavailable) == .lockedMemory(limit: 8 << 20))
    #expect(shortage(1 << 20, .fileTooLarge) == .fileSize(limit: nil))
    facts.locksMappings = true
    #expect(shortage(16 << 20) == .lockedMemory(limit: 8 << 20))
    facts.promisesNoMore = true
    facts.promisableByteCount = 1 << 10
    #expect(shortage() == .overcommit)
    facts.mappings = 65500
    #expect(shortage() == .mappings(65500, limit: 65530))
    let others: [MemoryShortage] = [
      .unknown, .overcommit, .threads, .regionMappings(limit: 7), .lockedMemory(limit: nil),
    ]
    for shortage in others {
      #expect(!"\(shortage)".contains("\n"))
    }
    #expect("\(MemoryShortage.mappings(65500, limit: 65530))".hasSuffix("vm.max_map_count=131072"))
    #expect("\(MemoryShortage.mappings(1, limit: 1 << 20))".hasSuffix("vm.max_map_count=2097152"))
  }

  @Test("The facts are those of the kernel")
  func facts() throws {
    let facts = MemoryFacts.ofThisProcess()
    let mappings = try #require(facts.mappings)
    #expect(abs(mappings - lines("/proc/self/maps").count) < 200)
    #expect(facts.mappingLimit == lines("/proc/sys/vm/max_map_count").first.flatMap { Int($0) })
    #expect(try #require(facts.addressSpaceByteCount) > 1 << 20)
    #expect(try #require(facts.dataByteCount) > 1 << 16)
    #expect(facts.promisesNoMore == (lines("/proc/sys/vm/overcommit_memory").first == "2"))
    #expect(facts.promisableByteCount != nil)
    #expect(!facts.locksMappings)
  }

  @Test(
    "Locked mappings are noticed", .enabled(if: Host.isRoot, SkipReason.root),
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func locks() async {
    await #expect(processExitsWith: .success) {
      #expect(cts_lock_future_memory() == 0)
      #expect(MemoryFacts.ofThisProcess().locksMappings)
    }
  }

  // MARK: mlockall(2) after mapping

  @Test(
    "Where the program has made every key of thread-specific data, the error says so", arguments: Delivery.ofRegions)
  func keys(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      var key: pthread_key_t = 0
      while unsafe pthread_key_create(&key, nil) == 0 {}
      let error = #expect(throws: FaultRuntimeError.self) {
        let runtime = try Self.runtime(Delivery(rawValue: name)!)
        _ = try runtime.map(Self.provider(), byteCount: pageBytes)
      }
      #expect(error?.description.contains("pthread_key_create") == true)
      #expect(error?.description.contains("PTHREAD_KEYS_MAX") == true)
    }
  }

  private static func shared() -> Int { (number(of: "RssShmem", in: "/proc/self/status") ?? 0) * 1024 }

  @Test(
    "mlockall(MCL_CURRENT) asks for no page where the descriptor serves no system calls",
    .enabled(if: Host.isRoot, SkipReason.root), .enabled(if: !Host.isSanitized, SkipReason.sanitizer),
    arguments: Delivery.ofRegions)
  func lockCurrent(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      let runtime = try LimitTests.runtime(Delivery(rawValue: name)!)
      let byteCount = 16 << 20
      let region = try runtime.map(LimitTests.provider(), byteCount: byteCount)
      #expect(region.access(5).isByte)
      let faults = runtime.statistics.faults
      let shared = LimitTests.shared()
      #expect(cts_lock_memory() == 0)
      #expect(runtime.statistics.faults == faults)
      #expect(!region.isResident(byteCount / 2))
      // With `sigsegv` the second mapping is filled.
      #expect((LimitTests.shared() - shared > byteCount / 2) == (region.delivery == .sigsegv))
      try region.populate()
      #expect(mismatches(in: region) == [])
      region.close()
    }
  }

  @Test(
    "mlockall(MCL_CURRENT) asks for every page where the descriptor serves system calls",
    .enabled(if: Host.isRoot && Host.kernelModeFaults, SkipReason.kernelModeFaults),
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func lockCurrentServed() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime(
        FaultRuntimeConfiguration(delivery: .eventLoop, needsSystemCalls: true, handlerThreads: 1))
      let region = try runtime.map(LimitTests.provider(), byteCount: 256 * pageBytes)
      #expect(cts_lock_memory() == 0)
      #expect((0..<256).allSatisfy { region.isResident($0 * pageBytes) })
      #expect(mismatches(in: region) == [])
    }
  }

  // MARK: Pieces without a descriptor

  /// Reads a region in pieces, of which some pages are there and some are not, and checks that the latter stay away.
  private static func checkPieces(of region: LazyRegion) {
    let written = 5 * pageBytes + 3
    var failure: FaultRuntimeError?
    var isRight = true
    var count = 0
    do throws(FaultRuntimeError) {
      try region.forEachPiece(of: 0..<region.byteCount, byteCount: 8 * pageBytes) { bytes, offset in
        for index in 0..<bytes.byteCount {
          let expected = offset + index == written ? 0 : expectedByte(offset + index)
          if bytes.load(fromByteOffset: index, as: UInt8.self) != expected { isRight = false }
        }
        count += bytes.byteCount
      }
    } catch {
      failure = error
    }
    #expect(failure == nil)
    #expect(isRight && count == region.byteCount)
    #expect(region.isResident(3 * pageBytes) && !region.isResident(20 * pageBytes))
  }

  private static func prepared(_ runtime: FaultRuntime) throws -> LazyRegion {
    let region = try runtime.map(provider(), byteCount: 32 * pageBytes)
    #expect(region.access(3 * pageBytes).isByte && region.access(5 * pageBytes).isByte)
    // What the program has written must not be taken from the provider.
    try region.write([0], at: 5 * pageBytes + 3)
    return region
  }

  @Test("Pieces are read without a descriptor", arguments: Delivery.ofRegions)
  func pieces(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      let region = try LimitTests.prepared(LimitTests.runtime(Delivery(rawValue: name)!))
      try LimitTests.setLimit(.openFiles, 3)
      #expect(unsafe open("/proc/self/pagemap", O_RDONLY) < 0)
      LimitTests.checkPieces(of: region)
      // Code that runs at the end of the process may need descriptors.
      try LimitTests.setLimit(.openFiles, 1024)
    }
  }

  @Test(
    "Pieces are read where the descriptor serves system calls, too",
    .enabled(if: Host.kernelModeFaults, SkipReason.kernelModeFaults),
    .enabled(if: !cuffd_host_has_swap(), SkipReason.noSwap))
  func piecesServed() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop, needsSystemCalls: true))
      let region = try LimitTests.prepared(runtime)
      try LimitTests.setLimit(.openFiles, 3)
      LimitTests.checkPieces(of: region)
      try LimitTests.setLimit(.openFiles, 1024)
    }
  }

  @Test(
    "Pieces are read by a process that has changed its user, and may not open its own files in /proc",
    .enabled(if: Host.isRoot, SkipReason.root))
  func piecesOfOther() async {
    await #expect(processExitsWith: .success) {
      let region = try LimitTests.prepared(LimitTests.runtime(.eventLoop))
      #expect(cts_become_nobody() == 0)
      #expect(unsafe open("/proc/self/pagemap", O_RDONLY) < 0)
      LimitTests.checkPieces(of: region)
    }
  }

  @Test("Without a file, pages that may be swapped out are told from missing ones by reading them")
  func withoutFile() throws {
    let runtime = try FaultRuntime(
      FaultRuntimeConfiguration(delivery: .eventLoop, descriptorChoice: .only(.userModeOnly)))
    let region = try Self.prepared(runtime)
    let memory = try #require(region.core.memory as? AnonymousMemory)
    for mayBeSwapped in [false, true] {
      var states = [UInt8](repeating: 7, count: 32)
      let errno = unsafe states.withUnsafeMutableBufferPointer { states in
        unsafe memory.noteOccupiedWithoutFile(region.core.range, mayBeSwapped: mayBeSwapped, in: states.baseAddress!)
      }
      #expect(errno == nil)
      #expect((0..<32).filter { states[$0] == 1 } == [3, 5])
      #expect(states.allSatisfy { $0 < 2 })
      #expect(!region.isResident(20 * pageBytes))
    }
  }

  // MARK: A memory cgroup

  @Test(
    "At the limit of a memory cgroup with its OOM killer the process is killed",
    .enabled(if: MemoryCgroup.isWritable, SkipReason.cgroup), .enabled(if: !Host.isSanitized, SkipReason.sanitizer),
    arguments: Delivery.ofRegions)
  func killed(delivery: Delivery) async throws {
    let group = try MemoryCgroup(limit: 24 << 20)
    defer { group.remove() }
    await #expect(processExitsWith: .signal(SIGKILL)) {
      [name = delivery.rawValue as String, path = group.path as String] in
      let runtime = try LimitTests.runtime(Delivery(rawValue: name)!)
      let region = try runtime.map(LimitTests.provider(), byteCount: 64 << 20)
      try MemoryCgroup.write("\(getpid())", to: path + "/cgroup.procs")
      for offset in stride(from: 0, to: region.byteCount, by: pageBytes) { _ = region.access(offset) }
    }
  }
}

/// A memory cgroup of the first version, which this process makes for a child.
private struct MemoryCgroup {
  private static let root = "/sys/fs/cgroup/memory"
  static let isWritable =
    unsafe access(root + "/cgroup.procs", W_OK) == 0 && access(root + "/memory.oom_control", F_OK) == 0

  let path: String

  init(limit: Int) throws {
    path = "\(Self.root)/fault-runtime-limit-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
    try #require(unsafe mkdir(path, 0o700) == 0)
    try Self.write("\(limit)", to: path + "/memory.limit_in_bytes")
  }

  func remove() { unsafe rmdir(path) }

  static func write(_ text: String, to path: String) throws {
    let descriptor = unsafe open(path, O_WRONLY | O_CLOEXEC)
    defer { close(descriptor) }
    try #require(descriptor >= 0)
    try #require(unsafe Glibc.write(descriptor, text, text.utf8.count) == text.utf8.count)
  }
}
