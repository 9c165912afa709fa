import Foundation
import TestSupport
import Testing

/// Tests what a host allows with real processes. The command is started with fewer rights. It must do its work or say
/// why it cannot, and `doctor` must say the same. Only the children have fewer rights, and their device nodes are in
/// mount namespaces of their own.
@Suite("lazy-mem-demo doctor", .serialized, .timeLimit(.minutes(6)))
struct DoctorTests {
  /// The part of the output of `doctor --json` that these tests read.
  struct Report: Decodable {
    struct Process: Decodable {
      var user: Int
      var hasPtraceCapability: Bool
      var hasSeccompFilter: Bool
      var hasNoNewPrivileges: Bool
    }
    struct Finding: Decodable {
      struct Remedy: Decodable {
        var command: String?
        var cost: String
      }
      var cause: String
      var remedies: [Remedy]
    }
    struct Descriptor: Decodable {
      var kind: String
      var isAvailable: Bool
      var errno: String?
      var findings: [Finding]
    }
    struct Auto: Decodable {
      struct Pick: Decodable {
        var delivery: String?
        var descriptor: String?
        var reason: String
      }
      var works: Bool
      var userModeFaults: Pick
      var kernelModeFaults: Pick
    }
    var isContainer: Bool
    var process: Process
    var descriptors: [Descriptor]
    var auto: Auto

    init(_ outcome: ProcessOutcome) throws {
      self = try JSONDecoder().decode(Report.self, from: Data(outcome.output.utf8))
    }

    func causes(_ kind: String) -> [String] { descriptors.first { $0.kind == kind }?.findings.map(\.cause) ?? ["?"] }
  }

  /// What the rules of the kernel allow with these rights, computed without the library.
  struct Expected {
    var full: [String]
    var userModeOnly: [String]
    /// The causes for both kinds of the device, which are the same: a user who may open the device may have either
    /// kind.
    var device: [String]

    init(_ rights: LoweredRights) {
      let isCalledRoot = rights.user != .nobody
      let ownsNode = [.root, .rootWithoutCapabilities].contains(rights.user)
      let mayHoldUpKernel = rights.user == .root || TestSupport.Host.allowsFullToAll
      let lacking = mayHoldUpKernel ? [] : isCalledRoot ? ["capability", "sysctl"] : ["sysctl", "capability"]
      switch rights.filter {
      case .none: (full, userModeOnly) = (lacking, [])
      case .userModeOnly: (full, userModeOnly) = (mayHoldUpKernel ? ["seccomp"] : lacking, [])
      case .notPermitted, .noSuchCall, .kills: (full, userModeOnly) = (["seccomp"] + lacking, ["seccomp"])
      }
      switch rights.device {
      case .missing: device = ["device-missing"]
      case .forEverybody: device = []
      case .ofTheMachine: device = ownsNode || Self.deviceIsForEverybody ? [] : ["device-permissions"]
      }
    }

    var userModeDescriptor: String? {
      userModeOnly.isEmpty ? "user-mode-only" : device.isEmpty ? "device-user-mode-only" : full.isEmpty ? "full" : nil
    }
    var kernelModeDescriptor: String? { full.isEmpty ? "full" : device.isEmpty ? "device" : nil }

    private static let deviceIsForEverybody: Bool = {
      var node = stat()
      return unsafe stat("/dev/userfaultfd", &node) == 0 && node.st_mode & 0o006 == 0o006
    }()
  }

  @Test(
    "With fewer rights the work is done, and where no userfaultfd can be had, the cause is named",
    .enabled(if: TestSupport.Host.isRoot, SkipReason.root),
    .enabled(if: !TestSupport.Host.isRoot || TestSupport.Host.device, SkipReason.device),
    arguments: LoweredRights.all)
  func lowered(rights: LoweredRights) async throws {
    let expected = Expected(rights)
    let outcome = try await rights.run("doctor", "--json")
    try #require(outcome.errors == "")
    let report = try Report(outcome)
    #expect(report.causes("full") == expected.full)
    #expect(report.causes("user-mode-only") == expected.userModeOnly)
    #expect(report.causes("device") == expected.device)
    #expect(report.causes("device-user-mode-only") == expected.device)
    for descriptor in report.descriptors { #expect(descriptor.isAvailable == descriptor.findings.isEmpty) }
    #expect(report.auto.userModeFaults.descriptor == expected.userModeDescriptor)
    #expect(report.auto.kernelModeFaults.descriptor == expected.kernelModeDescriptor)
    #expect(report.auto.userModeFaults.delivery == (expected.userModeDescriptor == nil ? "sigsegv" : "sigbus"))
    #expect(report.auto.kernelModeFaults.delivery == (expected.kernelModeDescriptor == nil ? nil : "event-loop"))
    // Without a userfaultfd, there is still a delivery that needs none.
    #expect(report.auto.works)
    #expect(outcome.code == 0)
    // The child had the rights that the launcher was asked for.
    #expect(report.process.user == (rights.user == .nobody ? 65534 : 0))
    #expect(report.process.hasPtraceCapability == (rights.user == .root))
    #expect(report.process.hasNoNewPrivileges == rights.noNewPrivileges)
    #expect(report.process.hasSeccompFilter == (rights.filter != .none))

    let sample = try Sample()
    let work = try await rights.run("map", sample.path, "--json")
    #expect(work.code == 0)
    #expect(work.output.contains("\"sha256\" : \"\(sample.sum)\""))
    #expect(work.output.contains("\"delivery\" : \"\(report.auto.userModeFaults.delivery ?? "?")\""))
    if let descriptor = expected.userModeDescriptor {
      #expect(work.errors == "")
      #expect(work.output.contains("\"descriptor\" : \"\(descriptor)\""))
    } else {
      let name = rights.filter == .noSuchCall ? "ENOSYS" : "EPERM"
      #expect(work.errors.contains("a seccomp filter answers userfaultfd(2) with \(name)"))
      #expect(work.errors.split(separator: "\n").count == 1)
      // A user who insists on a userfaultfd is told the same reason, and the command does nothing.
      let insisting = try await rights.run("map", sample.path, "--delivery", "sigbus")
      #expect(insisting.code == 3)
      #expect(insisting.output == "")
      #expect(insisting.errors.contains("a seccomp filter answers userfaultfd(2) with \(name)"))
    }
  }

  @Test(
    "A filter that kills is found without dying of it", .enabled(if: TestSupport.Host.isRoot, SkipReason.root),
    arguments: LoweredRights.User.allCases)
  func kills(user: LoweredRights.User) async throws {
    let rights = LoweredRights(user: user, filter: .kills)
    let outcome = try await rights.run("doctor", "--json")
    let report = try Report(outcome)
    #expect(report.causes("user-mode-only") == ["seccomp"])
    #expect(report.causes("full").first == "seccomp")
    #expect(report.descriptors.allSatisfy { $0.kind.hasPrefix("device") || $0.errno == nil })
    let sample = try Sample()
    let work = try await rights.run("map", sample.path, "--descriptor", "user-mode-only")
    withExtendedLifetime(sample) {}
    #expect(work.code == -SIGSYS, "the filter is real")
  }

  @Test("The commands for an ordinary user name that user", .enabled(if: TestSupport.Host.isRoot, SkipReason.root))
  func commands() async throws {
    let report = try await Report(LoweredRights(user: .nobody).run("doctor", "--json"))
    let remedies = report.descriptors.flatMap(\.findings).flatMap(\.remedies)
    let commands = remedies.compactMap(\.command)
    if !Expected(LoweredRights(user: .nobody)).device.isEmpty {
      #expect(commands.contains("setfacl -m u:65534:rw /dev/userfaultfd"))
    }
    #expect(
      commands.contains("sysctl -w vm.unprivileged_userfaultfd=1") == !Expected(LoweredRights(user: .nobody)).full
        .isEmpty)
    #expect(remedies.allSatisfy { !$0.cost.isEmpty })
  }

  @Test("Root of a namespace is named as the host knows it", .enabled(if: TestSupport.Host.isRoot, SkipReason.root))
  func namespace() async throws {
    guard let rights = LoweredRights.all.first(where: { $0.user == .rootOfNamespace }) else { return }
    let outcome = try await rights.run("doctor", "--json")
    #expect(try Report(outcome).process.user == 0)
    if !Expected(rights).device.isEmpty { #expect(outcome.output.contains("setfacl -m u:65534:rw /dev/userfaultfd")) }
    if !Expected(rights).full.isEmpty { #expect(outcome.output.contains("counts in the initial user namespace only")) }
  }

  @Test(
    "In namespaces as those of a container the remedies are options of the engine, and auto's line is short",
    .enabled(if: TestSupport.Host.isRoot, SkipReason.root), arguments: [LoweredRights.User.root, .nobody])
  func container(user: LoweredRights.User) async throws {
    let rights = LoweredRights(user: user, filter: .notPermitted, device: .missing, container: .namespaces)
    let outcome = try await rights.run("doctor", "--json")
    let report = try Report(outcome)
    #expect(report.isContainer)
    #expect(outcome.code == 0)
    let commands = report.descriptors.flatMap(\.findings).flatMap(\.remedies).compactMap(\.command)
    #expect(commands.contains { $0.contains("--device /dev/userfaultfd") })
    #expect(commands.contains { $0.contains("--security-opt seccomp=") })
    for word in ["mknod", "systemctl", "setcap"] { #expect(!commands.contains { $0.contains(word) }, "\(commands)") }
    let sample = try Sample()
    let work = try await rights.run("map", sample.path, "--json")
    #expect(work.code == 0)
    #expect(work.output.contains("\"sha256\" : \"\(sample.sum)\""))
    #expect(work.errors.split(separator: "\n").count == 1)
    #expect(work.errors.count <= 241, "\(work.errors)")
    #expect(work.errors.contains("remedy: ") && work.errors.contains("lazy-mem-demo doctor"))
  }

  @Test(
    "A file that an engine has left is no container", .enabled(if: TestSupport.Host.isRoot, SkipReason.root))
  func leftFile() async throws {
    // The tests themselves may run in a container.
    let plain = try await Report(LoweredRights().run("doctor", "--json"))
    let withFile = try await Report(LoweredRights(device: .missing, container: .file).run("doctor", "--json"))
    #expect(withFile.isContainer == plain.isContainer)
    let namespace = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/pid")
    let mounts = try String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8)
    // Every engine gives a container one or the other.
    let isMachine = namespace == "pid:[4026531836]" && !mounts.contains(" /etc/hostname ")
    #expect(!isMachine || !plain.isContainer)
  }

  @Test("For people there is a line for each way, with what would open it")
  func text() throws {
    let outcome = try DemoProcess.run("doctor")
    #expect(outcome.errors == "")
    #expect(outcome.code == 0)
    for name in ["kernel", "full", "device", "user-mode-only", "device-user-mode-only", "user code", "system calls"] {
      #expect(outcome.output.split(separator: "\n").contains { $0.hasPrefix(name + " ") }, "\(name)")
    }
    #expect(outcome.output.hasPrefix("auto works here\nuser code      sigbus"), "the verdict is first")
    #expect(outcome.output.contains("UFFD_") == false)
    #expect(outcome.output.contains("POISON                Linux 6.6"))
  }

  @Test("People who are refused see cause, command and cost", .enabled(if: TestSupport.Host.isRoot, SkipReason.root))
  func refusedText() async throws {
    let outcome = try await LoweredRights(user: .nobody, filter: .notPermitted, device: .missing).run("doctor")
    #expect(outcome.code == 0)
    #expect(outcome.output.hasPrefix("auto works here\nuser code      sigsegv: it needs no userfaultfd"))
    for text in [
      "sigsegv: it needs no userfaultfd, and none can be had", "no, EPERM",
      "a seccomp filter answers userfaultfd(2) with EPERM", "there is no /dev/userfaultfd here",
      "    command   lazy-mem-demo seccomp-profile --base", "    cost ", "?    MOVE",
    ] {
      #expect(outcome.output.contains(text), "\(text)")
    }
  }

  @Test("Every object has all its keys, with null for what is not known")
  func keys() throws {
    let outcome = try DemoProcess.run("doctor", "--json")
    let report = try outcome.object()
    #expect(
      Set(report.keys) == [
        "auto", "descriptors", "features", "isContainer", "isVirtualMachine", "kernel", "limits", "process", "warnings",
      ])
    let limits = try #require(report["limits"] as? [String: Any])
    #expect(
      Set(limits.keys) == [
        "addressSpaceBytes", "cgroupBytes", "cgroupUsedBytes", "freeHugePages", "hugePageBytes", "mappings",
        "openFiles",
        "transparentHugePageBytes", "transparentHugePages",
      ])
    #expect(limits["openFiles"] is Int)
    let features = try #require(report["features"] as? [[String: Any]])
    #expect(features.count >= 17)
    #expect(features.allSatisfy { Set($0.keys) == ["bit", "name", "since", "isAvailable"] })
    let kernel = try #require(report["kernel"] as? [String: Any])
    #expect(kernel["pageSize"] as? Int == Int(sysconf(Int32(_SC_PAGESIZE))))
  }
}
