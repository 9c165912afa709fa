/// A step that would open a closed way to a userfaultfd, and the cost of that step.
public struct HostRemedy: Hashable, Sendable {
  /// What the step does, in one line.
  public let action: String
  /// The command for the step, as an administrator types it; nil where no command does it.
  public let command: String?
  /// The cost of the step, in security or otherwise, in one line.
  public let cost: String
  /// The step in a few words, for a notice that has one line for everything.
  let brief: String

  init(action: String, command: String?, cost: String, brief: String? = nil) {
    self.action = action
    self.command = command
    self.cost = cost
    self.brief = brief ?? command ?? action
  }
}

extension HostFacts {
  /// Returns what would help against `cause` for `kind`, the smallest step first.
  func remedies(for cause: HostCause, of kind: DescriptorKind) -> [HostRemedy] {
    switch cause.kind {
    case .unprivilegedSetting: [isContainer ? .unprivilegedSettingOfHost : .unprivilegedSetting]
    case .missingCapability: capabilityRemedies
    case .devicePermissions: permissionRemedies
    case .deviceMissing: [container?.engine.deviceRemedy ?? nodeRemedy]
    case .deviceControl: [container?.engine.deviceRemedy ?? .unitDevice]
    case .seccompFilter: filterRemedies(for: kind)
    case .kernelConfiguration:
      [HostRemedy(action: "boot a kernel that was built with CONFIG_USERFAULTFD=y", command: nil, cost: .kernelCost)]
    case .kernelTooOld:
      [HostRemedy(action: "boot Linux \(kind.firstKernel) or later", command: nil, cost: .kernelCost)]
    case .gVisor: [(container?.engine ?? .unknown).otherRuntimeRemedy]
    case .securityModule: (container.map { [$0.engine.securityModuleRemedy] } ?? []) + [.securityPolicy]
    case .openFiles:
      attempts[kind] == .refused(.tooManyOpenFilesInSystem)
        ? [.openFilesOfSystem] : [container?.engine.openFilesRemedy ?? .openFiles]
    case .unknown: []
    }
  }

  private func filterRemedies(for kind: DescriptorKind) -> [HostRemedy] {
    // The device needs no change of a filter.
    if isGranted(kind.servesKernelModeFaults ? .device : .deviceUserModeOnly) { return [.openDevice] }
    if let engine = container?.engine {
      return kind.servesKernelModeFaults ? [engine.deviceRemedy] : [engine.filterRemedy, engine.deviceRemedy]
    }
    // The filter may be that of a container all the same, of which this process sees nothing.
    return kind.servesKernelModeFaults
      ? [.unitFilter] : [.unitFilter, ContainerEngine.unknown.filterRemedy]
  }

  private var capabilityRemedies: [HostRemedy] {
    // The kernel asks in the initial namespace, so that a right which is given inside another one does not count.
    guard process.isInInitialUserNamespace else { return [] }
    if let engine = container?.engine { return [engine.capabilityRemedy(isRoot: process.effectiveUser == 0)] }
    let program = process.executable.map(shellWord) ?? "PROGRAM"
    // After `no_new_privs`, the capabilities of a file have no effect. Beyond the bounding set, they make `execve(2)`
    // fail.
    guard process.mayGainPtrace, process.noNewPrivileges != true else {
      return [
        HostRemedy(
          action: "start the program with the capability",
          command: "setpriv --inh-caps +sys_ptrace --ambient-caps +sys_ptrace \(program)", cost: .ptraceCost)
      ]
    }
    return [
      HostRemedy(
        action: "give the program the capability", command: "setcap cap_sys_ptrace+ep \(program)", cost: .ptraceCost)
    ]
  }

  private var permissionRemedies: [HostRemedy] {
    // In a rootless container the node is the host's own, whose rights can be changed for the user outside.
    if let engine = container?.engine, process.isInInitialUserNamespace { return engine.permissionRemedies }
    let user = process.userMap?.outside(process.effectiveUser) ?? process.effectiveUser
    let place = isContainer ? "on the host, " : ""
    return [
      HostRemedy(
        action: place + "let this user open the device", command: "setfacl -m u:\(user):rw \(Userfaultfd.devicePath)",
        cost: "programs of this user may hold up the kernel in a fault; those of other users may not"),
      HostRemedy(
        action: place + "let everybody open the device", command: "chmod 0666 \(Userfaultfd.devicePath)",
        cost: .everybodyCost),
    ]
  }

  private var nodeRemedy: HostRemedy {
    let minor =
      if case .number(let number) = miscDevice { "\(number)" } else {
        "$(awk '$2 == \"userfaultfd\" { print $1 }' /proc/misc)"
      }
    return HostRemedy(
      action: "make the node", command: "mknod -m 0600 \(Userfaultfd.devicePath) c 10 \(minor)",
      cost: "none by itself: its rights say who may open it")
  }
}

extension HostRemedy {
  fileprivate static let unprivilegedSetting = HostRemedy(
    action: "let everybody have a descriptor that serves system calls",
    command: "sysctl -w vm.unprivileged_userfaultfd=1", cost: .everybodyCost)

  fileprivate static let unprivilegedSettingOfHost = HostRemedy(
    action: "on the host, let everybody have a descriptor that serves system calls",
    command: "sysctl -w vm.unprivileged_userfaultfd=1", cost: .everybodyCost)

  fileprivate static let unitFilter = HostRemedy(
    action: "allow userfaultfd(2) with any flags in the filter of the systemd unit",
    command: "systemctl edit UNIT  # SystemCallFilter=userfaultfd", cost: .callCost)

  fileprivate static let openDevice = HostRemedy(
    action: "take the descriptor of the device, which is open here; a runtime does so unless it is told otherwise",
    command: nil, cost: "none: the process may open the device already")

  fileprivate static let unitDevice = HostRemedy(
    action: "let the systemd unit open the device",
    command: "systemctl edit UNIT  # DeviceAllow=\(Userfaultfd.devicePath) rw",
    cost: "programs of the unit that may open it may hold up the kernel in a fault")

  fileprivate static let securityPolicy = HostRemedy(
    action: "allow it in the policy of the security module, or mount the device's folder without nodev", command: nil,
    cost: "as much as the policy then allows")

  fileprivate static let openFiles = HostRemedy(
    action: "raise the limit of open files", command: "ulimit -n 4096", cost: "none worth mentioning")

  fileprivate static let openFilesOfSystem = HostRemedy(
    action: "raise the system's limit of open files", command: "sysctl -w fs.file-max=1000000",
    cost: "programs may use more of the kernel's memory")
}

extension String {
  static let everybodyCost =
    "every program on the machine may hold up the kernel in a fault, which helps attacks on it"
  static let ptraceCost =
    "the program may also read and change every other program that is not better protected"
  static let deviceCost =
    "a program that may open it in the container may hold up the host's kernel in a fault"
  static let ruleCost = "programs may stop threads of their own in their own code, never in the kernel"
  static let callCost =
    "the filter no longer keeps the program from holding up the kernel; what rights it needs stays"
  fileprivate static let kernelCost = "none by itself: who may use it is decided as on any other kernel"
}

/// Returns `text` as one word of a shell command.
private func shellWord(_ text: String) -> String {
  let isPlain = text.utf8.allSatisfy { byte in
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
      || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || "/._-+".utf8.contains(byte)
  }
  guard !isPlain || text.isEmpty else { return text }
  return "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
}
