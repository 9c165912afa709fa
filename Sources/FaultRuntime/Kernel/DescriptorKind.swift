/// Which of the three ways to a userfaultfd was taken. They differ in the faults that they can serve.
public enum DescriptorKind: String, Hashable, Sendable, CaseIterable {
  /// `userfaultfd(2)` without restriction: faults of user code and of system calls. Needs `CAP_SYS_PTRACE`, or
  /// `vm.unprivileged_userfaultfd` at 1.
  case full

  /// `/dev/userfaultfd` (Linux 6.1): the same abilities, for whoever may open the device node.
  case device

  /// `userfaultfd(2)` with `UFFD_USER_MODE_ONLY` (Linux 5.11): faults of user code only, for everybody. A system call
  /// that meets a page which is not resident fails with `EFAULT` instead of waiting.
  case userModeOnly = "user-mode-only"

  /// Whether a system call that touches lazy memory is served.
  public var servesKernelModeFaults: Bool { self != .userModeOnly }
}

/// Which ways to a userfaultfd a runtime may try.
public enum DescriptorChoice: Hashable, Sendable {
  /// Full, then the device, then user-mode-only: the most able one that the host allows.
  case automatic

  /// This kind or an error.
  case only(DescriptorKind)

  var candidates: [DescriptorKind] {
    switch self {
    case .automatic: [.full, .device, .userModeOnly]
    case .only(let kind): [kind]
    }
  }
}
