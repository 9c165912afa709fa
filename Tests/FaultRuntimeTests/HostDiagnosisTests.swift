import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// Checks how facts lead to causes, remedies and picks, with facts of other hosts than this one.
@Suite("Host diagnosis", .timeLimit(.minutes(6)))
struct HostDiagnosisTests {
  /// Returns the facts of a new kernel with all features, and of a user without rights. The results of the attempts
  /// are those of such a kernel.
  private func host(_ change: (inout HostFacts) -> Void = { _ in }) -> HostFacts {
    var facts = HostFacts()
    facts.release = "6.18.1-generic"
    facts.systemVersion = "#1 SMP PREEMPT_DYNAMIC"
    facts.machine = "x86_64"
    facts.pageByteCount = 4 << 10
    facts.unprivilegedSetting = 0
    facts.showsSettings = true
    facts.miscDevice = .number(126)
    facts.node = HostFacts.Node(mode: 0o600, user: 0, group: 0, isAccessible: false)
    facts.process.effectiveUser = 1000
    facts.process.effectiveCapabilities = 0
    facts.process.boundingCapabilities = 0x1ff_ffff_ffff
    facts.process.noNewPrivileges = false
    facts.process.seccompMode = 0
    facts.process.userMap = UserMap("         0          0 4294967295\n")
    facts.process.executable = "/usr/bin/program"
    facts.attempts = [
      .full: .refused(.notPermitted), .userModeOnly: .granted([.sigbus, .poison]),
      .device: .refused(.permissionDenied), .deviceUserModeOnly: .refused(.permissionDenied),
    ]
    change(&facts)
    return facts
  }

  private func refuse(_ facts: inout HostFacts, _ errno: KernelErrno, device: KernelErrno? = nil) {
    for kind in DescriptorKind.allCases {
      facts.attempts[kind] = .refused(kind.isOfDevice ? device ?? errno : errno)
    }
  }

  private func commands(_ facts: HostFacts, _ cause: HostCause, _ kind: DescriptorKind) -> [String?] {
    facts.remedies(for: cause, of: kind).map(\.command)
  }

  // MARK: Causes

  @Test("An ordinary user lacks the setting and the capability, and the rights of the node")
  func ordinary() {
    let facts = host()
    #expect(facts.causes(of: .userModeOnly) == [])
    #expect(facts.causes(of: .full) == [.unprivilegedSetting, .missingCapability])
    #expect(facts.causes(of: .device) == [.devicePermissions])
    #expect(facts.causes(of: .deviceUserModeOnly) == [.devicePermissions])
    #expect(facts.explanation(of: .devicePermissions, for: .device).contains("0600 of user 0"))
  }

  @Test("Root without capabilities lacks a capability before anything else")
  func rootWithout() {
    let facts = host { $0.process.effectiveUser = 0 }
    #expect(facts.causes(of: .full) == [.missingCapability, .unprivilegedSetting])
  }

  @Test("A capability in another user namespace is none, and none can be given there")
  func namespace() {
    let facts = host {
      $0.process.effectiveUser = 0
      $0.process.effectiveCapabilities = UInt64.max
      $0.process.userMap = UserMap("         0     100000      65536\n")
    }
    #expect(!facts.process.hasPtrace)
    #expect(facts.causes(of: .full) == [.missingCapability, .unprivilegedSetting])
    #expect(facts.explanation(of: .missingCapability, for: .full).contains("initial user namespace"))
    #expect(commands(facts, .missingCapability, .full) == [])
    // The administrator outside knows this user by another number.
    #expect(commands(facts, .devicePermissions, .device).first == "setfacl -m u:100000:rw /dev/userfaultfd")
  }

  @Test("Both calls refused is a filter, with lacking rights behind it or without")
  func filter() {
    let facts = host {
      refuse(&$0, .notPermitted, device: .noSuchFileOrDirectory)
      $0.process.seccompMode = 2
    }
    #expect(facts.causes(of: .userModeOnly) == [.seccompFilter])
    #expect(facts.causes(of: .full) == [.seccompFilter, .unprivilegedSetting, .missingCapability])
    #expect(facts.causes(of: .device) == [.deviceMissing])
    // This profile answers ENOSYS by default and has a rule for user-mode-only.
    let ruled = host { $0.attempts[.full] = .refused(.noFunction) }
    #expect(ruled.causes(of: .full) == [.seccompFilter, .unprivilegedSetting, .missingCapability])
    #expect(ruled.causes(of: .userModeOnly) == [])
    var root = facts
    root.process.effectiveCapabilities = 1 << 19
    #expect(root.causes(of: .full) == [.seccompFilter])
  }

  @Test("Where the device is open, nothing has to be done against the filter, and nobody is told to open the device")
  func openDevice() {
    let facts = host { facts in
      refuse(&facts, .notPermitted)
      for kind in [DescriptorKind.device, .deviceUserModeOnly] { facts.attempts[kind] = .granted([.sigbus]) }
      facts.process.seccompMode = 2
      facts.containing.processNamespace = .other
    }
    for kind in [DescriptorKind.full, .userModeOnly] {
      let remedies = facts.remedies(for: .seccompFilter, of: kind)
      #expect(remedies.count == 1)
      #expect(remedies[0].action.contains("which is open here"))
      #expect(remedies[0].command == nil)
    }
  }

  @Test("A right that does not help is a filter that allows user-mode-only")
  func narrowFilter() {
    #expect(host { $0.process.effectiveCapabilities = 1 << 19 }.causes(of: .full) == [.seccompFilter])
    #expect(host { $0.unprivilegedSetting = 1 }.causes(of: .full) == [.seccompFilter])
  }

  @Test("A filter that kills, and one with another answer")
  func otherFilters() {
    let killed = host { for kind in [DescriptorKind.full, .userModeOnly] { $0.attempts[kind] = .killed } }
    #expect(killed.causes(of: .userModeOnly) == [.seccompFilter])
    #expect(killed.explanation(of: .seccompFilter, for: .userModeOnly).contains("kills"))
    let odd = host {
      refuse(&$0, .permissionDenied)
      $0.process.seccompMode = 2
    }
    #expect(odd.causes(of: .userModeOnly) == [.seccompFilter])
    let module = host { refuse(&$0, .permissionDenied) }
    #expect(module.causes(of: .userModeOnly) == [.securityModule])
    #expect(module.causes(of: .device) == [.devicePermissions])
  }

  @Test("ENOSYS is a filter where the setting is there, and the kernel's lack where it is not")
  func noSuchCall() {
    let filtered = host { refuse(&$0, .noFunction) }
    #expect(filtered.causes(of: .userModeOnly) == [.seccompFilter])
    #expect(filtered.explanation(of: .seccompFilter, for: .full).contains("ENOSYS"))
    let without = host {
      refuse(&$0, .noFunction, device: .noSuchFileOrDirectory)
      $0.unprivilegedSetting = nil
      $0.miscDevice = .absent
      $0.node = nil
    }
    for kind in DescriptorKind.allCases { #expect(without.causes(of: kind) == [.kernelConfiguration]) }
    // An active filter does not change the cause.
    var both = without
    both.process.seccompMode = 2
    #expect(both.causes(of: .userModeOnly) == [.kernelConfiguration])
    // Without /proc/sys, a missing setting proves nothing.
    both.showsSettings = false
    #expect(both.causes(of: .userModeOnly) == [.seccompFilter])
    #expect(both.causes(of: .device) == [.kernelConfiguration])
  }

  @Test("Old kernels lack what they lack", arguments: ["5.10.0", "5.4.0-42-generic", "4.19.1", "3.10.0-1160.el7"])
  func oldKernels(release: String) throws {
    let version = try #require(KernelVersion(release: release))
    let facts = host {
      $0.release = release
      refuse(&$0, version < KernelVersion(4, 3) ? .noFunction : .invalidArgument, device: .noSuchFileOrDirectory)
      $0.unprivilegedSetting = version < KernelVersion(5, 2) ? nil : 1
      $0.node = nil
      $0.miscDevice = .absent
      if version >= KernelVersion(4, 3) {
        $0.attempts[.full] = .granted(version < KernelVersion(4, 14) ? [] : [.sigbus])
      }
    }
    #expect(facts.causes(of: .userModeOnly) == [.kernelTooOld])
    #expect(facts.causes(of: .device) == [.kernelTooOld])
    #expect(facts.explanation(of: .kernelTooOld, for: .userModeOnly).contains("Linux 5.11"))
    #expect(facts.explanation(of: .kernelTooOld, for: .device).contains("Linux 6.1"))
    #expect(facts.causes(of: .full) == (version < KernelVersion(4, 3) ? [.kernelTooOld] : []))
    let report = HostReport(facts)
    #expect(
      report.userModeFaults.delivery
        == (version >= KernelVersion(4, 14) ? .sigbus : version >= KernelVersion(4, 3) ? nil : .sigsegv))
    #expect((report.kernelModeFaults.delivery != nil) == (version >= KernelVersion(4, 3)))
    #expect(report.userModeFaults.descriptor == (version >= KernelVersion(4, 14) ? .full : nil))
  }

  @Test("Linux 5.10 asks for rights before it looks at the flags")
  func rightsBeforeFlags() {
    let facts = host {
      $0.release = "5.10.0"
      refuse(&$0, .notPermitted, device: .noSuchFileOrDirectory)
    }
    #expect(facts.causes(of: .userModeOnly) == [.kernelTooOld])
    #expect(facts.causes(of: .full) == [.unprivilegedSetting, .missingCapability])
    #expect(commands(facts, .unprivilegedSetting, .full) == ["sysctl -w vm.unprivileged_userfaultfd=1"])
  }

  @Test(
    "gVisor is known by what it calls itself",
    arguments: [("4.4.0", "#1 SMP Sun Jan 10 15:06:54 PST 2016"), ("4.19.0-gvisor", "#1 SMP")])
  func gVisor(release: String, version: String) {
    let facts = host {
      $0.release = release
      $0.systemVersion = version
      refuse(&$0, .noFunction, device: .noSuchFileOrDirectory)
      $0.unprivilegedSetting = nil
    }
    for kind in DescriptorKind.allCases { #expect(facts.causes(of: kind) == [.gVisor]) }
    let report = HostReport(facts)
    #expect(report.isGVisor)
    #expect(report.kernelModeFaults.delivery == nil)
    #expect(report.userModeFaults.delivery == .sigsegv)
    #expect(report.userModeFaults.reason.contains("gVisor"))
    #expect(!report.warnings.contains { $0.contains("guard markers") })
    var withoutGuards = facts
    withoutGuards.hasGuardMarkers = false
    #expect(HostReport(withoutGuards).warnings.contains { $0.contains("guard markers") })
    #expect(report.features.allSatisfy { $0.isAvailable == nil })
  }

  @Test("Every way for the node to be of no use")
  func node() {
    func causes(_ errno: KernelErrno, _ change: (inout HostFacts) -> Void = { _ in }) -> [HostCause] {
      host {
        $0.attempts[.device] = .refused(errno)
        change(&$0)
      }.causes(of: .device)
    }
    #expect(causes(.noSuchFileOrDirectory) == [.deviceMissing])
    #expect(causes(.noSuchFileOrDirectory) { $0.miscDevice = .notTold } == [.deviceMissing])
    #expect(causes(.noSuchFileOrDirectory) { $0.miscDevice = .absent } == [.kernelConfiguration])
    #expect(causes(.noSuchAddressOrDevice) == [.deviceMissing])
    #expect(causes(.notPermitted) == [.deviceControl])
    #expect(causes(.permissionDenied) { $0.node?.isAccessible = true } == [.securityModule])
    #expect(causes(.tooManyOpenFiles) == [.openFiles])
    #expect(causes(.tooManyOpenFilesInSystem) == [.openFiles])
    #expect(causes(.ioError) == [.unknown])
  }

  // MARK: Remedies

  @Test("Every cause that can be met has a remedy with its cost")
  func everyCause() {
    let facts = host()
    for cause in HostCause.allCases where cause != .unknown {
      for kind in DescriptorKind.allCases {
        let remedies = facts.remedies(for: cause, of: kind)
        #expect(!remedies.isEmpty, "\(cause)")
        for remedy in remedies {
          #expect(!remedy.action.isEmpty && !remedy.cost.isEmpty)
          #expect(!(remedy.action + remedy.cost + (remedy.command ?? "")).contains("\n"))
        }
        #expect(!facts.explanation(of: cause, for: kind).contains("\n"))
      }
    }
  }

  @Test("The commands are exact")
  func exactCommands() {
    let facts = host()
    #expect(
      commands(facts, .devicePermissions, .device)
        == ["setfacl -m u:1000:rw /dev/userfaultfd", "chmod 0666 /dev/userfaultfd"])
    #expect(commands(facts, .deviceMissing, .device) == ["mknod -m 0600 /dev/userfaultfd c 10 126"])
    #expect(commands(facts, .missingCapability, .full) == ["setcap cap_sys_ptrace+ep /usr/bin/program"])
    let odd = host { $0.process.executable = "/opt/a b/it's" }
    #expect(commands(odd, .missingCapability, .full) == ["setcap cap_sys_ptrace+ep '/opt/a b/it'\\''s'"])
  }

  @Test("setcap is not advised where it does nothing, or makes the program fail to start")
  func uselessCapability() {
    let bounded = host { $0.process.boundingCapabilities = 0 }
    let confined = host { $0.process.noNewPrivileges = true }
    for facts in [bounded, confined] {
      let command = commands(facts, .missingCapability, .full)[0]
      #expect(command == "setpriv --inh-caps +sys_ptrace --ambient-caps +sys_ptrace /usr/bin/program")
    }
  }

  // MARK: Picks

  @Test("The pick is that of the runtime's own order")
  func picks() {
    let everything = host { facts in
      for kind in DescriptorKind.allCases { facts.attempts[kind] = .granted([.sigbus]) }
    }
    #expect(everything.pick(servingSystemCalls: false).descriptor == .userModeOnly)
    #expect(everything.pick(servingSystemCalls: true).descriptor == .full)
    let device = host { facts in
      refuse(&facts, .notPermitted)
      for kind in [DescriptorKind.device, .deviceUserModeOnly] { facts.attempts[kind] = .granted([.sigbus]) }
    }
    let pick = device.pick(servingSystemCalls: false)
    #expect(pick.descriptor == .deviceUserModeOnly)
    #expect(pick.delivery == .sigbus)
    #expect(pick.deliveryOfOtherProviders == .eventLoop)
    #expect(device.pick(servingSystemCalls: true).descriptor == .device)
    #expect(device.pick(servingSystemCalls: true).delivery == .eventLoop)
  }

  @Test("Where nothing serves system calls, user code is still served")
  func halfWorks() {
    let report = HostReport(host())
    #expect(report.autoWorks)
    #expect(report.userModeFaults.delivery == .sigbus)
    #expect(report.kernelModeFaults.delivery == nil)
    #expect(report.kernelModeFaults.reason.contains("vm.unprivileged_userfaultfd is 0"))
    let nothing = HostReport(host { refuse(&$0, .notPermitted) })
    #expect(nothing.autoWorks)
    #expect(nothing.userModeFaults.delivery == .sigsegv)
    #expect(nothing.userModeFaults.descriptor == nil)
    #expect(nothing.userModeFaults.reason.contains("seccomp"))
    #expect(nothing.kernelModeFaults.delivery == nil)
  }

  // MARK: Features and limits

  @Test("Features are told bit by bit, with those that are newer than the library")
  func features() {
    let report = HostReport(
      host { $0.attempts[.userModeOnly] = .granted([.sigbus, .move, UserfaultfdFeatures(rawValue: 1 << 40)]) })
    #expect(report.features.count == 18)
    #expect(report.features.prefix(17).map(\.bit) == Array(0..<17))
    #expect(Set(report.features.filter { $0.isAvailable == true }.map(\.name)) == ["SIGBUS", "MOVE", "bit 40"])
    #expect(report.features[16].since == "6.8")
    // Each name belongs to its bit.
    for (bit, feature) in [(14, UserfaultfdFeatures.poison), (8, .threadID), (7, .sigbus), (16, .move)] {
      #expect(feature.rawValue == 1 << UInt64(bit))
    }
  }

  @Test("Limits that bite are warned of, and others are not")
  func limits() {
    #expect(HostLimits(mappings: 65530, openFiles: 1024, transparentHugePages: "madvise").warnings == [])
    let limits = HostLimits(
      mappings: 1000, openFiles: 20, addressSpaceByteCount: 1 << 30, cgroupByteCount: 1 << 28,
      transparentHugePages: "never")
    let warnings = limits.warnings
    #expect(warnings.count == 5)
    for (warning, word) in zip(warnings, ["max_map_count", "RLIMIT_NOFILE", "RLIMIT_AS", "cgroup", "huge"]) {
      #expect(warning.contains(word))
    }
  }

  // MARK: Texts of the kernel

  @Test("Versions are compared as numbers")
  func versions() {
    #expect(KernelVersion(release: "5.9.0").map { $0 < KernelVersion(5, 11) } == true)
    #expect(KernelVersion(release: "6.18.44-x") == KernelVersion(6, 18))
    #expect(KernelVersion(release: "6.1-rc3") == KernelVersion(6, 1))
    for bad in ["", "6", "x.y", ".1", "6.", "-1.2"] { #expect(KernelVersion(release: bad) == nil) }
  }

  @Test("The status of a process")
  func status() {
    var facts = ProcessFacts()
    facts.read(
      status:
        """
        Name:\tx y
        Uid:\t1\t2\t3\t4
        CapEff:\t0000000000080000
        CapBnd:\t00000000a80425fb
        NoNewPrivs:\t1
        Seccomp:\t2
        Seccomp_filters:\t7

        """
    )
    #expect(facts.effectiveCapabilities == 0x80000)
    #expect(facts.boundingCapabilities == 0xa804_25fb)
    #expect(facts.noNewPrivileges == true)
    #expect(facts.seccompMode == 2)
    #expect(facts.hasPtrace)
    #expect(!facts.mayGainPtrace)
    facts.read(status: "CapEff:\nCapBnd:\tzz\n\n:::\n")
    #expect(facts.effectiveCapabilities == 0x80000)
    #expect(facts.boundingCapabilities == nil)
  }

  @Test("Users outside of their namespace")
  func userMaps() throws {
    let map = try #require(UserMap("0 1000 1\n1 100000 65535\n"))
    #expect(map.outside(0) == 1000)
    #expect(map.outside(65535) == 165534)
    #expect(map.outside(65536) == nil)
    #expect(!map.isInitial)
    #expect(UserMap("") == nil)
    #expect(UserMap("garbage\n") == nil)
  }

  @Test("Where a memory cgroup may say its limit")
  func cgroups() {
    let both = CgroupFolder.all("4:memory:/a/b\n3:cpu,cpuacct:/\n0::/\n")
    #expect(
      both.map { $0.path + $0.limitName } == [
        "/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/unified/memory.max",
      ])
    #expect(CgroupFolder.all("nonsense\n\n") == [])
    #expect(CgroupFolder.limit("max\n") == nil)
    #expect(CgroupFolder.limit("9223372036854771712\n") == nil)
    #expect(CgroupFolder.limit("268435456\n") == 268_435_456)
  }

  @Test("Other texts")
  func texts() {
    #expect(HostFacts.hypervisorFlag("model name\t: x\nflags\t\t: fpu hypervisor sse\n") == true)
    #expect(HostFacts.hypervisorFlag("flags\t\t: fpu sse\n") == false)
    #expect(HostFacts.hypervisorFlag("Features\t: fp asimd\n") == nil)
    #expect(HostFacts.MiscDevice("257 userfaultfd\n 58 x\n") == .number(257))
    #expect(HostFacts.MiscDevice(" 58 x\n") == .absent)
    #expect(HostLimits.chosen("always [madvise] never\n") == "madvise")
    #expect(HostLimits.chosen("]x[\n") == nil)
    #expect(HostLimits.meminfo("HugePages_Free", "HugePages_Free:       7\n") == 7)
    #expect(HostLimits.meminfo("HugePages_Free", "HugePages_Total:       7\n") == nil)
  }
}
