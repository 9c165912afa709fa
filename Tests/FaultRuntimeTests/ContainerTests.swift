import Testing

@testable import FaultRuntime

/// Checks which facts lead to the conclusion that the process runs in a container, and what helps there.
@Suite("Containers", .timeLimit(.minutes(6)))
struct ContainerTests {
  /// Returns the facts of an ordinary machine with the root user, who may look at process 1.
  private func machine(_ change: (inout ContainerFacts) -> Void = { _ in }) -> HostFacts {
    var facts = HostFacts()
    facts.release = "6.18.1-generic"
    facts.unprivilegedSetting = 0
    facts.showsSettings = true
    facts.miscDevice = .number(126)
    facts.process.userMap = UserMap("         0          0 4294967295\n")
    facts.containing.processNamespace = .initial
    facts.containing.processNumbers = 1
    facts.containing.sharesMountsWithInit = true
    facts.containing.cgroups = ["/user.slice/user-0.slice/session-1.scope", "/"]
    facts.containing.mounts = MountFacts("27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n")
    change(&facts.containing)
    return facts
  }

  private static let number = String(repeating: "0123456789abcdef", count: 4)
  private static let files = MountFacts.engineFiles.map { file in
    "500 400 8:1 /x\(file) \(file) rw - ext4 /dev/sda1 rw\n"
  }.joined()
  private static let dockerRoot = """
    400 300 0:45 / / rw - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A,upperdir=/var/lib/docker/x\n
    """

  // MARK: Conclusions

  @Test("A machine is no container, whatever files and variables are left over on it")
  func leftOver() {
    #expect(!machine().isContainer)
    let all = machine {
      $0.markers = Set(ContainerFacts.markerFiles)
      $0.variable = "docker"
      $0.hasKubernetesService = true
      $0.systemdSays = "docker"
    }
    #expect(!all.isContainer)
    // An ordinary user may not look at process 1.
    var user = all
    user.containing.sharesMountsWithInit = nil
    #expect(!user.isContainer)
    // A system that runs from a medium has an overlay as its root.
    user.containing.mounts = MountFacts("27 1 0:20 / / rw - overlay overlay rw,lowerdir=/cdrom,upperdir=/cow\n")
    #expect(!user.isContainer)
    // A unit of systemd with mounts of its own.
    user.containing.sharesMountsWithInit = false
    user.containing.mounts = MountFacts("27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n")
    #expect(!user.isContainer)
    #expect(HostReport(user).containerEvidence == [])
  }

  @Test("A PID namespace, a cgroup, or what process 1 was told, is enough by itself")
  func proofs() {
    for change in [
      { $0.processNamespace = .other }, { $0.processNumbers = 2 }, { $0.variableOfInit = "lxc" },
      { $0.cgroups = ["/docker/\(Self.number)"] },
      { $0.cgroups = ["/", "/machine.slice/libpod-\(Self.number).scope"] },
      { $0.cgroups = ["/kubepods.slice/kubepods-pod1.slice/cri-containerd-1.scope"] },
      { $0.cgroups = ["/lxc.payload.web"] }, { $0.cgroups = ["/machine.slice/machine-a.scope/payload"] },
    ] as [(inout ContainerFacts) -> Void] {
      let facts = machine(change)
      #expect(facts.container?.evidence.count == 1)
      #expect(HostReport(facts).isContainer)
    }
    for path in [
      "/system.slice/docker.service", "/machine.slice/libpod-conmon-\(Self.number).scope", "/docker",
      "/user.slice/user-1000.slice/user@1000.service", "",
    ] {
      #expect(!machine { $0.cgroups = [path] }.isContainer, "\(path)")
    }
  }

  @Test("A container with the host's PID namespace is known by its mounts")
  func hostPIDs() {
    func container(_ mounts: String, _ marks: Set<String> = []) -> HostFacts {
      machine {
        $0.sharesMountsWithInit = nil
        $0.mounts = MountFacts(mounts)
        $0.markers = marks
      }
    }
    #expect(container(Self.dockerRoot, [ContainerFacts.dockerMarker]).isContainer)
    #expect(container(Self.dockerRoot + Self.files).isContainer)
    #expect(container("400 300 8:1 /srv/rootfs / rw - ext4 /dev/sda1 rw\n" + Self.files).isContainer)
    #expect(!container("400 300 8:1 /srv/rootfs / rw - ext4 /dev/sda1 rw\n").isContainer)
    #expect(!container("400 300 0:2 /@ / rw - btrfs /dev/sda1 rw\n" + Self.files).isContainer)
    var overlay = container("400 300 0:45 / / rw - overlay overlay rw\n", [ContainerFacts.podmanMarker])
    #expect(!overlay.isContainer)
    overlay.containing.sharesMountsWithInit = false
    #expect(overlay.isContainer)
  }

  @Test("The Windows Subsystem for Linux has PID namespaces of its own, and containers in it have more")
  func windows() {
    var facts = machine {
      $0.processNamespace = .other
      $0.sharesMountsWithInit = nil
    }
    facts.release = "5.15.167.4-microsoft-standard-WSL2"
    #expect(!facts.isContainer)
    facts.containing.mounts = MountFacts(Self.dockerRoot)
    facts.containing.markers = [ContainerFacts.dockerMarker]
    #expect(facts.isContainer)
  }

  @Test("gVisor is a container, whatever its namespaces look like")
  func gVisor() {
    var facts = machine()
    facts.release = "4.19.0-gvisor"
    #expect(facts.isContainer)
  }

  private func contained(by change: (inout ContainerFacts) -> Void = { _ in }) -> HostFacts {
    var facts = machine(change)
    facts.containing.processNamespace = .other
    return facts
  }

  @Test("The engine is known by what it leaves")
  func engines() {
    func engine(_ change: (inout ContainerFacts) -> Void) -> ContainerEngine? {
      contained(by: change).container?.engine
    }
    #expect(engine { _ in } == .unknown)
    #expect(engine { $0.markers = [ContainerFacts.dockerMarker] } == .docker)
    #expect(engine { $0.mounts = MountFacts(Self.dockerRoot) } == .docker)
    #expect(engine { $0.markers = [ContainerFacts.podmanMarker] } == .podman)
    #expect(engine { $0.variable = "podman" } == .podman)
    #expect(engine { $0.variableOfInit = "lxc" } == .lxc)
    #expect(engine { $0.systemdSays = "systemd-nspawn" } == .systemdNspawn)
    #expect(
      engine {
        $0.markers = [ContainerFacts.podmanMarker]
        $0.hasKubernetesService = true
      } == .kubernetes)
  }

  // MARK: Remedies

  private func commands(_ facts: HostFacts, _ cause: HostCause, _ kind: DescriptorKind) -> [String?] {
    facts.remedies(for: cause, of: kind).map(\.command)
  }

  @Test("In a container no remedy changes what only the host can change")
  func noHostCommands() {
    let engines: [(inout ContainerFacts) -> Void] = [
      { _ in }, { $0.markers = [ContainerFacts.dockerMarker] }, { $0.variable = "podman" },
      { $0.hasKubernetesService = true }, { $0.variableOfInit = "lxc" }, { $0.variableOfInit = "systemd-nspawn" },
    ]
    for change in engines {
      let facts = contained(by: change)
      for kind in DescriptorKind.allCases {
        for cause in HostCause.allCases where cause != .unknown {
          let remedies = facts.remedies(for: cause, of: kind)
          #expect(!remedies.isEmpty)
          for remedy in remedies {
            let text = "\(remedy.action) \(remedy.command ?? "") \(remedy.cost)"
            for word in ["mknod", "systemctl", "setcap", "\n"] { #expect(!text.contains(word), "\(text)") }
            if text.contains("sysctl -w vm") || text.contains("chmod") {
              #expect(remedy.action.hasPrefix("on the host"))
            }
          }
        }
        let device = facts.remedies(for: .deviceMissing, of: kind)
        #expect(device.allSatisfy { "\($0.action) \($0.command ?? "")".contains("/dev/userfaultfd") })
      }
      // The filter has two remedies: the narrow rule, and the device, which needs no rule.
      #expect(facts.remedies(for: .seccompFilter, of: .userModeOnly).count == 2)
    }
  }

  @Test("The commands for a container are exact")
  func exactCommands() {
    let docker = contained { $0.markers = [ContainerFacts.dockerMarker] }
    let podman = contained { $0.markers = [ContainerFacts.podmanMarker] }
    let pod = contained { $0.hasKubernetesService = true }
    #expect(commands(docker, .deviceMissing, .device) == ["docker run --device /dev/userfaultfd ..."])
    #expect(commands(podman, .deviceMissing, .device) == ["podman run --device /dev/userfaultfd ..."])
    #expect(commands(contained(), .deviceMissing, .device) == ["docker run --device /dev/userfaultfd ..."])
    #expect(commands(podman, .deviceControl, .device) == ["podman run --device /dev/userfaultfd ..."])
    #expect(commands(docker, .seccompFilter, .full) == ["docker run --device /dev/userfaultfd ..."])
    #expect(
      commands(docker, .seccompFilter, .userModeOnly)[0]
        == """
        lazy-mem-demo seccomp-profile --base BASE.json > PROFILE.json && \
        docker run --security-opt seccomp=PROFILE.json ...
        """)
    #expect(
      commands(podman, .seccompFilter, .userModeOnly)[0]
        == """
        lazy-mem-demo seccomp-profile --base /usr/share/containers/seccomp.json > PROFILE.json && \
        podman run --security-opt seccomp=PROFILE.json ...
        """)
    #expect(pod.remedies(for: .deviceMissing, of: .device)[0].action.contains("device plugin"))
    #expect(pod.remedies(for: .deviceMissing, of: .device)[0].action.contains("hostPath"))
    #expect(pod.remedies(for: .seccompFilter, of: .userModeOnly)[0].action.contains("localhostProfile"))
    #expect(commands(docker, .missingCapability, .full) == ["docker run --cap-add SYS_PTRACE ..."])
    var user = docker
    user.process.effectiveUser = 1000
    #expect(commands(user, .missingCapability, .full) == ["docker run --cap-add SYS_PTRACE --user 0 ..."])
    #expect(
      commands(user, .devicePermissions, .device)
        == ["docker run --user 0 --device /dev/userfaultfd ...", "chmod 0666 /dev/userfaultfd"])
    #expect(commands(docker, .gVisor, .full) == ["docker run --runtime runc ..."])
    // In a rootless container the node is the host's own.
    user.process.userMap = UserMap("0 100000 65536\n")
    #expect(commands(user, .devicePermissions, .device).first == "setfacl -m u:101000:rw /dev/userfaultfd")
  }

  @Test("Outside of a container the filter of a systemd unit is named first")
  func unit() {
    #expect(commands(machine(), .seccompFilter, .full) == ["systemctl edit UNIT  # SystemCallFilter=userfaultfd"])
    #expect(
      commands(machine(), .seccompFilter, .userModeOnly).first == "systemctl edit UNIT  # SystemCallFilter=userfaultfd")
    #expect(commands(machine(), .deviceMissing, .device) == ["mknod -m 0600 /dev/userfaultfd c 10 126"])
  }

  @Test("A limit of the whole system is not raised for one process")
  func systemFiles() {
    var facts = machine()
    facts.attempts[.full] = .refused(.tooManyOpenFilesInSystem)
    #expect(commands(facts, .openFiles, .full)[0]?.contains("fs.file-max") == true)
    facts.attempts[.full] = .refused(.tooManyOpenFiles)
    #expect(commands(facts, .openFiles, .full) == ["ulimit -n 4096"])
  }

  // MARK: The notice of `auto`

  @Test("The notice of auto has one cause and one remedy, and is short", arguments: [false, true])
  func notice(inContainer: Bool) {
    let refusals: [(KernelErrno, KernelErrno)] = [
      (.notPermitted, .noSuchFileOrDirectory), (.noFunction, .permissionDenied), (.notPermitted, .notPermitted),
      (.permissionDenied, .noSuchFileOrDirectory), (.invalidArgument, .noSuchAddressOrDevice),
    ]
    let engines: [(inout ContainerFacts) -> Void] = [
      { _ in }, { $0.markers = [ContainerFacts.dockerMarker] }, { $0.variable = "podman" },
      { $0.hasKubernetesService = true }, { $0.variableOfInit = "lxc" }, { $0.variableOfInit = "systemd-nspawn" },
    ]
    for release in ["6.18.1-generic", "5.4.0-generic", "4.19.0-gvisor"] {
      for (call, device) in refusals {
        for change in engines {
          var facts = inContainer ? contained(by: change) : machine()
          facts.release = release
          facts.process.seccompMode = 2
          let tried = DescriptorChoice.automatic.candidates(servingSystemCalls: false).map {
            Userfaultfd.Refusal(kind: $0, errno: $0.isOfDevice ? device : call)
          }
          for refusal in tried { facts.attempts[refusal.kind] = .refused(refusal.errno) }
          let error = FaultRuntimeError.unavailable(facts, tried)
          let notice = AutomaticDelivery.notice(of: error)
          // The line begins with the name of the library on standard error.
          #expect(notice.count + "FaultRuntime: ".count <= 240, "\(notice)")
          #expect(notice.hasSuffix("; more: lazy-mem-demo doctor"))
          #expect(notice.components("remedy:") == 2, "\(notice)")
          #expect(notice.components("a seccomp filter") <= 2)
          #expect(error.advice.map { $0.components("a seccomp filter answers") <= 2 } == true)
          #expect(!notice.contains("\n"))
        }
      }
    }
  }

  // MARK: Texts of the kernel

  @Test("The texts of namespaces, variables, cgroups and mounts")
  func texts() {
    #expect(ContainerFacts.processNamespace("pid:[4026531836]") == .initial)
    #expect(ContainerFacts.processNamespace("pid:[4026532511]") == .other)
    for bad in ["", "pid:[", "pid:[x]", "mnt:[4026531836]", "pid:[99999999999999]"] {
      #expect(ContainerFacts.processNamespace(bad) == .notTold)
    }
    #expect(ContainerFacts.processNumbers("Name:\tx\nNSpid:\t812\t7\t1\nNSsid:\t1\n") == 3)
    #expect(ContainerFacts.processNumbers("NSpid:\n") == nil)
    #expect(ContainerFacts.variable("container", in: "A=1\0container=podman\0mycontainer=x\0") == "podman")
    #expect(ContainerFacts.variable("container", in: "container_x=1\0container=\0") == nil)
    #expect(ContainerFacts.cgroups("5:memory:/a\n4:cpu:/a\n0::/b:c\nnonsense\n") == ["/a", "/b:c"])
    let mounts = MountFacts(
      "1 1 0:2 / / rw - rootfs rootfs rw\n" + Self.dockerRoot + "x y\n\n1 2 3 4 5 6 -\n1 2 3 4 5 6 - ext4\n"
        + Self.files)
    #expect(mounts.rootType == "overlay")
    #expect(mounts.rootSource.contains("upperdir=/var/lib/docker/x"))
    #expect(mounts.mountedFiles == Set(MountFacts.engineFiles))
    #expect(MountFacts("") == MountFacts())
  }
}

extension String {
  /// Returns into how many parts `separator` divides the text.
  fileprivate func components(_ separator: String) -> Int {
    var rest = self[...]
    var count = 1
    while let place = rest.firstRange(of: separator) {
      rest = rest[place.upperBound...]
      count += 1
    }
    return count
  }
}
