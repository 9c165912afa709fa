/// A step that would open a closed way to a userfaultfd, and the cost of that step.
public struct HostRemedy: Hashable, Sendable {
  /// What the step does, in one line.
  public let action: String
  /// The command for the step, as an administrator types it; nil where no command does it.
  public let command: String?
  /// The cost of the step, in security or otherwise, in one line.
  public let cost: String
}

extension HostFacts {
  /// Returns what would help against `cause` for `kind`, the smallest step first.
  func remedies(for cause: HostCause, of kind: DescriptorKind) -> [HostRemedy] {
    switch cause.kind {
    case .unprivilegedSetting: [.unprivilegedSetting]
    case .missingCapability: capabilityRemedies
    case .devicePermissions: permissionRemedies
    case .deviceMissing: isContainer ? [.containerDevice] : [nodeRemedy]
    case .deviceControl: [.containerDevice]
    case .seccompFilter: kind.servesKernelModeFaults ? [fullFilterRemedy] : [.filterRule]
    case .kernelConfiguration:
      [HostRemedy(action: "boot a kernel that was built with CONFIG_USERFAULTFD=y", command: nil, cost: .kernelCost)]
    case .kernelTooOld:
      [HostRemedy(action: "boot Linux \(kind.firstKernel) or later", command: nil, cost: .kernelCost)]
    case .gVisor: [.otherRuntime]
    case .securityModule:
      [
        HostRemedy(
          action: "allow it in the policy of the security module, or mount the device's folder without nodev",
          command: nil,
          cost: "as much as the policy then allows")
      ]
    case .openFiles:
      [HostRemedy(action: "raise the limit of open files", command: "ulimit -n 4096", cost: "none worth mentioning")]
    case .unknown: []
    }
  }

  private var capabilityRemedies: [HostRemedy] {
    // The kernel asks in the initial namespace, so that a right which is given inside another one does not count.
    guard process.isInInitialUserNamespace else { return [] }
    if isContainer {
      // A container gives added capabilities to its root user only.
      let user = process.effectiveUser == 0 ? "" : " --user 0"
      return [
        HostRemedy(
          action: "give the container the capability\(user.isEmpty ? "" : ", and run as its root")",
          command: "docker run --cap-add SYS_PTRACE\(user) ...", cost: .ptraceCost)
      ]
    }
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
    let user = process.userMap?.outside(process.effectiveUser) ?? process.effectiveUser
    return [
      HostRemedy(
        action: "let this user open the device", command: "setfacl -m u:\(user):rw \(Userfaultfd.devicePath)",
        cost: "programs of this user may hold up the kernel in a fault; those of other users may not"),
      HostRemedy(
        action: "let everybody open the device", command: "chmod 0666 \(Userfaultfd.devicePath)", cost: .everybodyCost),
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

  private var fullFilterRemedy: HostRemedy {
    isContainer
      ? .containerDevice
      : HostRemedy(
        action: "allow userfaultfd(2) with any flags in the filter",
        command: "systemctl edit UNIT  # SystemCallFilter=userfaultfd",
        cost: "the filter no longer keeps the program from holding up the kernel; what rights it needs stays")
  }
}

extension HostRemedy {
  fileprivate static let unprivilegedSetting = HostRemedy(
    action: "let everybody have a descriptor that serves system calls",
    command: "sysctl -w vm.unprivileged_userfaultfd=1", cost: .everybodyCost)

  fileprivate static let containerDevice = HostRemedy(
    action: "give the container the device; no change of its seccomp profile is needed",
    command: "docker run --device \(Userfaultfd.devicePath) ...",
    cost: "a program that may open it in the container may hold up the host's kernel in a fault")

  fileprivate static let filterRule = HostRemedy(
    action: "allow the call in the seccomp profile, with UFFD_USER_MODE_ONLY and nothing else",
    command: """
      lazy-mem-demo seccomp-profile --base BASE.json > PROFILE.json && \
      docker run --security-opt seccomp=PROFILE.json ...
      """,
    cost: "programs may stop threads of their own in their own code, never in the kernel")

  fileprivate static let otherRuntime = HostRemedy(
    action: "run the container on the host's kernel", command: "docker run --runtime runc ...",
    cost: "only the host's kernel then keeps the container from the host")
}

extension String {
  fileprivate static let everybodyCost =
    "every program on the machine may hold up the kernel in a fault, which helps attacks on it"
  fileprivate static let ptraceCost =
    "the program may also read and change every other program that is not better protected"
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
