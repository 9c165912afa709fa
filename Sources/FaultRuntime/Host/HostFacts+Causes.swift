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
      if errno == .tooManyOpenFiles || errno == .tooManyOpenFilesInSystem {
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
    case .noFunction: missingCallCauses
    case .invalidArgument where kind == .userModeOnly && isOlder(than: KernelVersion(5, 11)): [.kernelTooOld]
    case .notPermitted where kind == .userModeOnly:
      // The kernel itself never says so, unless it asks for rights before it looks at the flags.
      isOlder(than: KernelVersion(5, 11)) && !hasRightsForFull ? [.kernelTooOld] : [.seccompFilter]
    case .notPermitted: refusedFullCauses
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
    case .noSuchFileOrDirectory:
      if isOlder(than: KernelVersion(6, 1)) { return [.kernelTooOld] }
      return miscDevice == .absent ? [.kernelConfiguration] : [.deviceMissing]
    case .noSuchAddressOrDevice: return miscDevice == .absent ? [.kernelConfiguration] : [.deviceMissing]
    case .permissionDenied: return node?.isAccessible == true ? [.securityModule] : [.devicePermissions]
    case .notPermitted: return [.deviceControl]
    default: return [.unknown]
    }
  }

  func isOlder(than version: KernelVersion) -> Bool { self.version.map { $0 < version } ?? false }
}

extension DescriptorKind {
  /// The first kernel that has it.
  var firstKernel: KernelVersion {
    switch kind {
    case .full: KernelVersion(4, 3)
    case .userModeOnly: KernelVersion(5, 11)
    case .device, .deviceUserModeOnly: KernelVersion(6, 1)
    }
  }
}
