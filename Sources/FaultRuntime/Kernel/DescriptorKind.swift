/// Which of the ways to a userfaultfd was taken. They differ in the faults that they can serve.
public enum DescriptorKind: String, Hashable, Sendable, CaseIterable {
  /// `userfaultfd(2)` without restriction: faults of user code and of system calls. Needs `CAP_SYS_PTRACE`, or
  /// `vm.unprivileged_userfaultfd` at 1.
  case full

  /// `/dev/userfaultfd` (Linux 6.1): the same abilities, for whoever may open the device node.
  case device

  /// `userfaultfd(2)` with `UFFD_USER_MODE_ONLY` (Linux 5.11): faults of user code only, for everybody. A system call
  /// that meets a page which is not resident fails with `EFAULT` instead of waiting.
  case userModeOnly = "user-mode-only"

  /// `/dev/userfaultfd` with `UFFD_USER_MODE_ONLY`: the same, where a filter forbids the system call.
  case deviceUserModeOnly = "device-user-mode-only"

  /// Whether a system call that touches lazy memory is served.
  public var servesKernelModeFaults: Bool { self == .full || self == .device }
}

/// Which ways to a userfaultfd a runtime may try.
public enum DescriptorChoice: Hashable, Sendable {
  /// No more than is needed. Where system calls have to be served (``FaultRuntimeConfiguration/needsSystemCalls``): full, then
  /// the device. Otherwise user-mode-only, by the system call or else by the device; and full, on kernels before 5.11, which
  /// know nothing else.
  case automatic

  /// This kind or an error.
  case only(DescriptorKind)

  /// What to try, in this order.
  func candidates(servingSystemCalls: Bool) -> [DescriptorKind] {
    switch self {
    // A fault of the kernel's that a program can hold up as long as it likes is a tool for attacks on the kernel.
    case .automatic: servingSystemCalls ? [.full, .device] : [.userModeOnly, .deviceUserModeOnly, .full]
    case .only(let kind): [kind]
    }
  }
}
