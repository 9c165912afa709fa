/// Why a way to a userfaultfd is closed.
public enum HostCause: String, Hashable, Sendable, CaseIterable {
  /// `vm.unprivileged_userfaultfd` is 0, and the process has no right of its own.
  case unprivilegedSetting = "sysctl"
  /// The process has no `CAP_SYS_PTRACE` that counts in the initial user namespace.
  case missingCapability = "capability"
  /// The rights of the device node leave this user out.
  case devicePermissions = "device-permissions"
  /// The kernel has the device, and there is no usable node for it here.
  case deviceMissing = "device-missing"
  /// The node may be opened, but a control group for devices forbids it.
  case deviceControl = "device-cgroup"
  /// A seccomp filter forbids the system call.
  case seccompFilter = "seccomp"
  /// The kernel was built without `CONFIG_USERFAULTFD`.
  case kernelConfiguration = "kernel-config"
  /// The kernel is older than this way.
  case kernelTooOld = "kernel-too-old"
  /// What answers is gVisor, which has no userfaultfd.
  case gVisor = "gvisor"
  /// A security module, such as SELinux, or a mount option forbids it.
  case securityModule = "security-module"
  /// The process has as many descriptors open as it may.
  case openFiles = "open-files"
  /// None of these explains what the kernel said.
  case unknown
}

extension HostFacts {
  /// Why `kind` cannot be had, what is met first before the rest. Empty where it can.
  func causes(of kind: DescriptorKind) -> [HostCause] {
    let met = causesMet(by: kind)
    // Whoever gets past the filter meets the kernel.
    return kind == .full && met == [.seccompFilter] && !hasRightsForFull ? met + missingRights : met
  }

  private func causesMet(by kind: DescriptorKind) -> [HostCause] {
    switch attempts[kind] {
    case .granted?: []
    case nil: [.unknown]
    case .killed?: [.seccompFilter]
    case .refused(let errno)?:
      if errno == .tooManyOpenFiles || errno == .tooManyOpenFilesOfSystem {
        [.openFiles]
      } else if isGVisor {
        [.gVisor]
      } else if kind.isOfDevice {
        deviceCauses(errno)
      } else {
        callCauses(kind, errno)
      }
    }
  }

  private func callCauses(_ kind: DescriptorKind, _ errno: KernelErrno) -> [HostCause] {
    switch errno {
    case .noSuchSystemCall: missingCallCauses
    case .invalidArgument where kind == .userModeOnly && isOlder(than: KernelVersion(5, 11)): [.kernelTooOld]
    case .operationNotPermitted where kind == .userModeOnly:
      // The kernel itself never says so, unless it asks for rights before it looks at the flags.
      isOlder(than: KernelVersion(5, 11)) && !hasRightsForFull ? [.kernelTooOld] : [.seccompFilter]
    case .operationNotPermitted: refusedFullCauses
    case .permissionDenied: process.isFiltered ? [.seccompFilter] : [.securityModule]
    default: process.isFiltered ? [.seccompFilter] : [.unknown]
    }
  }

  private var missingCallCauses: [HostCause] {
    if isOlder(than: KernelVersion(4, 3)) { return [.kernelTooOld] }
    if unprivilegedSetting != nil { return [.seccompFilter] }
    // The setting would be there if the kernel had userfaultfd.
    if showsSettings, let version, version >= KernelVersion(5, 2) { return [.kernelConfiguration] }
    return process.isFiltered ? [.seccompFilter] : [.kernelConfiguration]
  }

  private var refusedFullCauses: [HostCause] {
    // What forbids even the lesser call is a filter, so rights alone would not help.
    hasRightsForFull || causesMet(by: .userModeOnly) == [.seccompFilter] ? [.seccompFilter] : missingRights
  }

  /// Either of them would do. Root wonders what it lacks, everybody else who forbids it.
  private var missingRights: [HostCause] {
    let both: [HostCause] = [.unprivilegedSetting, .missingCapability]
    return process.effectiveUser == 0 ? both.reversed() : both
  }

  private func deviceCauses(_ errno: KernelErrno) -> [HostCause] {
    switch errno {
    case .noSuchEntry:
      if isOlder(than: KernelVersion(6, 1)) { return [.kernelTooOld] }
      return miscDevice == .absent ? [.kernelConfiguration] : [.deviceMissing]
    case .noSuchDeviceOrAddress: return miscDevice == .absent ? [.kernelConfiguration] : [.deviceMissing]
    case .permissionDenied: return node?.isAccessible == true ? [.securityModule] : [.devicePermissions]
    case .operationNotPermitted: return [.deviceControl]
    default: return [.unknown]
    }
  }

  func isOlder(than version: KernelVersion) -> Bool { self.version.map { $0 < version } ?? false }
}

extension DescriptorKind {
  /// Whether it comes from the device node.
  var isOfDevice: Bool { self == .device || self == .deviceUserModeOnly }

  /// The first kernel that has it.
  var firstKernel: KernelVersion {
    switch self {
    case .full: KernelVersion(4, 3)
    case .userModeOnly: KernelVersion(5, 11)
    case .device, .deviceUserModeOnly: KernelVersion(6, 1)
    }
  }
}
