import CTestSupport
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Bad input", .timeLimit(.minutes(6)))
struct BadInputTests {
  private func fileError(_ path: String, sourceLocation: SourceLocation = #_sourceLocation) -> FileProviderError? {
    #expect(throws: FileProviderError.self, sourceLocation: sourceLocation) { try FileProvider(path) }
  }

  private func mapError(
    _ byteCount: Int, _ provider: some PageProvider = ZeroProvider(),
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> FaultRuntimeError? {
    let runtime = try FaultRuntime()
    let error = #expect(throws: FaultRuntimeError.self, sourceLocation: sourceLocation) {
      try runtime.map(provider, byteCount: byteCount, options: RegionOptions(name: "bad"))
    }
    #expect(runtime.regionCount == 0, sourceLocation: sourceLocation)
    // The runtime must still work after the error.
    let region = try runtime.map(patternProvider(), byteCount: 10)
    #expect(region.access(9) == .byte(expectedByte(9)), sourceLocation: sourceLocation)
    return error
  }

  @Test("A missing file")
  func missing() {
    let error = fileError("/tmp/no such file")
    #expect(error?.code == .cannotOpen)
    #expect(error?.errno == .noSuchFileOrDirectory)
    #expect(error?.description == "cannot open /tmp/no such file (ENOENT: No such file or directory)")
  }

  @Test("A directory")
  func directory() {
    let error = fileError("/tmp")
    #expect(error?.code == .notARegularFile)
    #expect(error?.errno == .isDirectory)
  }

  @Test("A device, and a pipe that nobody writes to, which must not hang")
  func notAFile() {
    #expect(fileError("/dev/null")?.code == .notARegularFile)
    let path = "/tmp/fault-runtime-fifo-\(getpid())"
    #expect(unsafe mkfifo(path, 0o600) == 0)
    defer { unsafe unlink(path) }
    #expect(fileError(path)?.code == .notARegularFile)
  }

  @Test("A file that the user may not read", .enabled(if: Host.isRoot, SkipReason.root))
  func unreadable() async throws {
    let file = try TemporaryFile(bytes: [1, 2, 3])
    #expect(unsafe chmod(file.path, 0o600) == 0)
    await #expect(processExitsWith: .success) { [path = file.path as String] in
      #expect(cts_become_nobody() == 0)
      let error = #expect(throws: FileProviderError.self) { try FileProvider(path) }
      #expect(error?.code == .cannotOpen)
      #expect(error?.errno == .permissionDenied)
    }
  }

  @Test("An empty file")
  func empty() throws {
    let file = try TemporaryFile(bytes: [])
    let runtime = try FaultRuntime()
    let provider = try FileProvider(file.path)
    let error = #expect(throws: FaultRuntimeError.self) { try runtime.map(provider) }
    #expect(error?.code == .emptyRegion)
  }

  @Test("Lengths that are none", arguments: [0, -1, Int.min])
  func noLength(byteCount: Int) throws {
    let error = try mapError(byteCount)
    #expect(error?.code == .emptyRegion)
    #expect(error?.description.contains("region 'bad' would have \(byteCount) bytes") == true)
  }

  @Test("Lengths beyond the address space", arguments: [1 << 50, Int.max - pageBytes, Int.max])
  func tooLong(byteCount: Int) throws {
    let error = try mapError(byteCount)
    #expect(error?.code == .cannotMap)
    #expect(error?.errno == .noMemory)
    #expect(error?.advice?.contains("RLIMIT_AS") == true)
  }

  @Test("A provider that wants requests beyond any measure", arguments: [(1 << 30) + 1, Int.max])
  func tooLargeRequests(byteCount: Int) throws {
    let error = try mapError(
      100, patternProvider(requestSize: RequestSize(preferred: pageBytes, largest: byteCount)))
    #expect(error?.code == .requestTooLarge)
  }

  @Test("Sizes of requests are made whole pages, and the largest a multiple of the preferred")
  func oddSizes() throws {
    let core = try Region(
      testing: patternProvider(requestSize: RequestSize(preferred: 3 * pageBytes - 1, largest: 10 * pageBytes)),
      byteCount: 1)
    #expect(core.requestUnit == 3 * pageBytes)
    #expect(core.largestRequest == 9 * pageBytes)
    #expect(RequestSize(preferred: 10, largest: 1).largest == 10)
  }

  @Test(
    "A configuration out of its range",
    arguments: [
      FaultRuntimeConfiguration(handlerThreads: 0), FaultRuntimeConfiguration(handlerThreads: 65),
      FaultRuntimeConfiguration(batchCapacity: 0), FaultRuntimeConfiguration(batchCapacity: 4097),
    ])
  func configuration(configuration: FaultRuntimeConfiguration) {
    let error = #expect(throws: FaultRuntimeError.self) { try FaultRuntime(configuration) }
    #expect(error?.code == .invalidConfiguration)
  }

  @Test("The smallest batch works")
  func smallestBatch() throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(batchCapacity: 1))
    let region = try runtime.map(patternProvider(), byteCount: 30 * pageBytes)
    let threads = (0..<4).map { index in
      TestThread { #expect(region.access(index * pageBytes) == .byte(expectedByte(index * pageBytes))) }
    }
    for thread in threads { #expect(thread.join()) }
    #expect(mismatches(in: region).isEmpty)
    #expect(runtime.statistics.largestBatch == 1)
  }

  @Test("Filling a buffer beyond its end traps")
  func overfilled() async {
    let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
      let region = try FaultRuntime().map(
        ClosureProvider { request, page in
          page.append(repeating: 1, count: request.byteCount + 1)
          return .filled
        }, byteCount: pageBytes)
      _ = region.access(0)
    }
    let text = result.errors
    #expect(text.contains("more bytes appended than the request wants"))
  }

  @Test("A host that forbids userfaultfd is named, with what was tried and what would help")
  func forbidden() async {
    await #expect(processExitsWith: .success) {
      #expect(cts_deny_userfaultfd(EPERM) == 0)
      let choice = DescriptorChoice.only(.userModeOnly)
      let error = #expect(throws: FaultRuntimeError.self) {
        try FaultRuntime(FaultRuntimeConfiguration(descriptorChoice: choice))
      }
      #expect(error?.code == .userfaultfdUnavailable)
      #expect(error?.message.contains("user-mode-only: EPERM") == true)
      #expect(error?.advice?.contains("seccomp") == true)
    }
    await #expect(processExitsWith: .success) {
      #expect(cts_deny_userfaultfd(ENOSYS) == 0)
      let choice = DescriptorChoice.only(.userModeOnly)
      let error = #expect(throws: FaultRuntimeError.self) {
        try FaultRuntime(FaultRuntimeConfiguration(descriptorChoice: choice))
      }
      #expect(error?.code == .userfaultfdUnavailable)
      // The kernel has userfaultfd, because the tests run, so the cause must be the filter.
      #expect(error?.advice?.contains("seccomp filter answers userfaultfd(2) with ENOSYS") == true)
    }
  }

  @Test(
    "An ordinary user gets a descriptor for user code, and the right bytes", .enabled(if: Host.isRoot, SkipReason.root))
  func ordinaryUser() async {
    await #expect(processExitsWith: .success) {
      #expect(cts_become_nobody() == 0)
      let runtime = try FaultRuntime()
      let region = try runtime.map(patternProvider(), byteCount: 20 * pageBytes)
      #expect(mismatches(in: region).isEmpty)
      #expect(runtime.descriptor == .userModeOnly)
    }
  }

  @Test("What is not needed is not asked for, and comes last where nothing else is to be had")
  func leastDescriptor() throws {
    let automatic = DescriptorChoice.automatic
    // Before Linux 5.11, the kernel answers the first with EINVAL and the second with ENOENT.
    #expect(automatic.candidates(servingSystemCalls: false) == [.userModeOnly, .deviceUserModeOnly, .full])
    #expect(automatic.candidates(servingSystemCalls: true) == [.full, .device])
    #expect(try FaultRuntime().descriptor == .userModeOnly)
    #expect(try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigbus)).descriptor == .userModeOnly)
    guard Host.kernelModeFaults else { return }
    #expect(try FaultRuntime(FaultRuntimeConfiguration(needsSystemCalls: true)).descriptor == .full)
  }

  @Test(
    "Where a filter forbids the system call the device gives as little",
    .enabled(if: Host.shouldAllow(.deviceUserModeOnly), SkipReason.root))
  func leastDescriptorOfDevice() async {
    await #expect(processExitsWith: .success) {
      #expect(cts_deny_userfaultfd(EPERM) == 0)
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop))
      #expect(runtime.descriptor == .deviceUserModeOnly)
      #expect(runtime.descriptor?.servesKernelModeFaults == false)
      let region = try runtime.map(patternProvider(), byteCount: 2 * pageBytes)
      var copy = [UInt8](repeating: 0, count: 10)
      #expect(unsafe cts_write_to_pipe(region.address, 10, &copy) == Int(-EFAULT))
      #expect(mismatches(in: region).isEmpty)
      let serving = try FaultRuntime(FaultRuntimeConfiguration(needsSystemCalls: true))
      #expect(serving.descriptor == .device)
      let served = try serving.map(patternProvider(), byteCount: 2 * pageBytes)
      #expect(unsafe cts_write_to_pipe(served.address, 10, &copy) == 10)
    }
  }

  @Test("Without free descriptors the error says so")
  func noDescriptors() async {
    await #expect(processExitsWith: .success) {
      let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
      var before = rlimit()
      #expect(unsafe getrlimit(resource, &before) == 0)
      var limit = rlimit(rlim_cur: 3, rlim_max: before.rlim_max)
      #expect(unsafe setrlimit(resource, &limit) == 0)
      let error = #expect(throws: FaultRuntimeError.self) { try FaultRuntime() }
      // Code that runs at the end of the process may need descriptors.
      #expect(unsafe setrlimit(resource, &before) == 0)
      #expect(error?.code == .userfaultfdUnavailable)
      #expect(error?.advice?.contains("RLIMIT_NOFILE") == true)
    }
  }
}
