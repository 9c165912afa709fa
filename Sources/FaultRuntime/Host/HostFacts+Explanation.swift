extension HostFacts {
  /// Returns what `cause` means on this host for `kind`, in one line.
  func explanation(of cause: HostCause, for kind: DescriptorKind) -> String {
    let errno: KernelErrno? = if case .refused(let errno)? = attempts[kind] { errno } else { nil }
    let said = errno.map { "\($0)" } ?? "SIGSYS"
    switch cause.kind {
    case .unprivilegedSetting:
      return "vm.unprivileged_userfaultfd is \(unprivilegedSetting ?? 0): only CAP_SYS_PTRACE may hold up the kernel"
    case .missingCapability:
      return process.isInInitialUserNamespace
        ? "user \(process.effectiveUser) has no CAP_SYS_PTRACE"
        : "CAP_SYS_PTRACE counts in the initial user namespace only, and this process is in another"
    case .devicePermissions:
      guard let node else { return "\(Userfaultfd.devicePath) may not be opened" }
      let mode = "0" + String(node.mode, radix: 8)
      return """
        \(Userfaultfd.devicePath) is \(mode) of user \(node.user) and group \(node.group), and this is user \
        \(process.effectiveUser)
        """
    case .deviceMissing:
      return errno == .noSuchAddressOrDevice
        ? "\(Userfaultfd.devicePath) is not the device of this kernel" : "there is no \(Userfaultfd.devicePath) here"
    case .deviceControl:
      return "\(Userfaultfd.devicePath) is there, but a control group for devices forbids it"
    case .seccompFilter:
      return errno == nil
        ? "a seccomp filter kills a process that calls userfaultfd(2)"
        : "a seccomp filter answers userfaultfd(2) with \(said)"
    case .kernelConfiguration:
      return "the kernel was built without CONFIG_USERFAULTFD"
    case .kernelTooOld:
      return "Linux \(kind.firstKernel) has it, and this is \(release)"
    case .gVisor:
      return "this is gVisor, which calls itself Linux \(release) and has no userfaultfd"
    case .securityModule:
      return kind.isOfDevice
        ? "the rights of \(Userfaultfd.devicePath) would do; a security module or the mount option nodev forbids it"
        : "a security module, such as SELinux, forbids it"
    case .openFiles:
      return errno == .tooManyOpenFilesInSystem
        ? "the system has as many files open as it may (fs.file-max)"
        : "the process is at its limit of open files (RLIMIT_NOFILE)"
    case .unknown:
      return attempts[kind] == nil ? "not tried" : "the kernel said \(said), which nothing here explains"
    }
  }
}
