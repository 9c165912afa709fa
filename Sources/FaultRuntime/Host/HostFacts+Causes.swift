extension HostFacts {
  /// Returns why `kind` is not available, in the order in which the process meets the causes. Empty where `kind` is
  /// available.
  func causes(of kind: DescriptorKind) -> [HostCause] {
    let met = causesMet(by: kind)
    // Once the filter lets the call through, the kernel asks for rights, which this process lacks.
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
      // A kernel that knows this kind never answers `EPERM`. An older one does, because it asks for rights before it
      // looks at the flags.
      isOlder(than: KernelVersion(5, 11)) && !hasRightsForFull ? [.kernelTooOld] : [.seccompFilter]
    case .notPermitted: refusedFullCauses
    case .permissionDenied: process.isFiltered ? [.seccompFilter] : [.securityModule]
    default: process.isFiltered ? [.seccompFilter] : [.unknown]
    }
  }

  private var missingCallCauses: [HostCause] {
    if isOlder(than: KernelVersion(4, 3)) { return [.kernelTooOld] }
    if unprivilegedSetting != nil { return [.seccompFilter] }
    // Since Linux 5.2 the setting is there wherever the kernel has userfaultfd.
    if showsSettings, let version, version >= KernelVersion(5, 2) { return [.kernelConfiguration] }
    return process.isFiltered ? [.seccompFilter] : [.kernelConfiguration]
  }

  private var refusedFullCauses: [HostCause] {
    // A filter that forbids even the user-mode-only call forbids this one as well, so that more rights alone would
    // not help.
    hasRightsForFull || causesMet(by: .userModeOnly) == [.seccompFilter] ? [.seccompFilter] : missingRights
  }

  /// The setting and the capability; a change of either would do. For root the missing capability is the more
  /// surprising one, and for all other users the setting is.
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
  /// The first kernel version that has this kind.
  var firstKernel: KernelVersion {
    switch kind {
    case .full: KernelVersion(4, 3)
    case .userModeOnly: KernelVersion(5, 11)
    case .device, .deviceUserModeOnly: KernelVersion(6, 1)
    }
  }
}
