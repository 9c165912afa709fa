import CTestSupport
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Keeping CPUs awake", .serialized, .timeLimit(.minutes(6)))
struct CPULatencyTests {
  private static let device = CPULatencyHold.devicePath

  private static var awake: FaultRuntimeConfiguration { FaultRuntimeConfiguration(keepsCPUsAwake: true) }

  private static var heldDescriptors: Int { descriptorKinds()[device, default: 0] }

  /// The latency limit of the system in microseconds; -1 if it cannot be read.
  private static var target: Int32 {
    let descriptor = unsafe open(device, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return -1 }
    defer { close(descriptor) }
    var microseconds: Int32 = -1
    return unsafe Glibc.read(descriptor, &microseconds, 4) == 4 ? microseconds : -1
  }

  @Test(
    "The request stands as long as the runtime or a region does", .enabled(if: Host.cpuLatency, SkipReason.cpuLatency))
  func held() async {
    await #expect(processExitsWith: .success) {
      #expect(Self.heldDescriptors == 0)
      // Another process may hold the system to the same limit. Then the end of this request is not visible.
      let before = Self.target
      var region: LazyRegion?
      do {
        let runtime = try FaultRuntime(Self.awake)
        #expect(Self.heldDescriptors == 1)
        #expect(Self.target == 0)
        region = try runtime.map(patternProvider(), byteCount: pageBytes)
      }
      #expect(Self.heldDescriptors == 1)
      #expect(region?.access(0) == .byte(expectedByte(0)))
      region = nil
      #expect(eventually { Self.heldDescriptors == 0 })
      if before > 0 { #expect(eventually { Self.target > 0 }) }
    }
  }

  @Test("A file that has come in place of the request stays open, and the request never has a number of 0 to 2")
  func otherFile() async {
    await #expect(processExitsWith: .success) {
      let file = try TemporaryFile(bytes: [])
      for number: CInt in 0...2 { #expect(Glibc.close(number) == 0) }
      let null = unsafe open("/dev/null", O_RDWR)
      #expect(null == 0)
      var number: CInt = -1
      do {
        let hold = try CPULatencyHold(path: file.path)
        number = try #require(openDescriptors().first { descriptorTarget($0) == file.path })
        #expect(number > 2)
        #expect(dup2(null, number) == number)
        _ = consume hold
      }
      #expect(descriptorTarget(number) == "/dev/null")
      do { _ = try CPULatencyHold(path: file.path) }
      #expect(!openDescriptors().contains { descriptorTarget($0) == file.path })
    }
  }

  @Test("Nothing is held unless it is asked for")
  func notByDefault() async {
    await #expect(processExitsWith: .success) {
      let runtime = try FaultRuntime()
      #expect(Self.heldDescriptors == 0)
      #expect(runtime.regionCount == 0)
    }
  }

  @Test(
    "A runtime that cannot be made holds nothing", .enabled(if: Host.cpuLatency, SkipReason.cpuLatency),
    arguments: Delivery.allCases.filter { $0 != .sigsegv })
  func failsLater(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      #expect(cts_deny_userfaultfd(ENOSYS) == 0)
      var configuration = Self.awake
      configuration.delivery = try #require(Delivery(rawValue: name))
      configuration.descriptorChoice = .only(.userModeOnly)
      let error = #expect(throws: FaultRuntimeError.self) { try FaultRuntime(configuration) }
      #expect(error?.code == .userfaultfdUnavailable)
      #expect(Self.heldDescriptors == 0)
    }
  }

  @Test(
    "An ordinary user is told who may", .enabled(if: Host.isRoot, SkipReason.root),
    .enabled(if: Host.cpuLatency, SkipReason.cpuLatency))
  func ordinaryUser() async {
    await #expect(processExitsWith: .success) {
      #expect(cts_become_nobody() == 0)
      let error = #expect(throws: FaultRuntimeError.self) { try FaultRuntime(Self.awake) }
      #expect(error?.code == .cannotKeepCPUsAwake)
      #expect(error?.errno == .permissionDenied)
      #expect(error?.description.contains("/dev/cpu_dma_latency (EACCES: Permission denied); run as root") == true)
    }
  }

  @Test("Where there is no such device the error says so")
  func missing() {
    var configuration = Self.awake
    configuration.cpuLatencyDevice = "/dev/no-such-device"
    let error = #expect(throws: FaultRuntimeError.self) { try FaultRuntime(configuration) }
    #expect(error?.code == .cannotKeepCPUsAwake)
    #expect(error?.errno == .noSuchFileOrDirectory)
    #expect(error?.advice?.contains("--device /dev/no-such-device") == true)
  }
}
