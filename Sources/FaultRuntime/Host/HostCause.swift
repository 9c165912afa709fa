/// A reason why a way to a userfaultfd is closed. More causes may be added.
public struct HostCause: RawRepresentable, Hashable, Sendable, CaseIterable {
  enum Kind: String, CaseIterable {
    case unprivilegedSetting = "sysctl"
    case missingCapability = "capability"
    case devicePermissions = "device-permissions"
    case deviceMissing = "device-missing"
    case deviceControl = "device-cgroup"
    case seccompFilter = "seccomp"
    case kernelConfiguration = "kernel-config"
    case kernelTooOld = "kernel-too-old"
    case gVisor = "gvisor"
    case securityModule = "security-module"
    case openFiles = "open-files"
    case unknown
  }

  /// The library switches over this enumeration, so that the compiler finds every place where a new cause has to be
  /// handled.
  let kind: Kind

  private init(kind: Kind) { self.kind = kind }

  /// `vm.unprivileged_userfaultfd` is 0, and the process lacks `CAP_SYS_PTRACE`.
  public static let unprivilegedSetting = HostCause(kind: .unprivilegedSetting)
  /// The process lacks `CAP_SYS_PTRACE` in the initial user namespace, which is the one where the kernel asks for it.
  public static let missingCapability = HostCause(kind: .missingCapability)
  /// The permissions of the device node do not let this user open it.
  public static let devicePermissions = HostCause(kind: .devicePermissions)
  /// The kernel has the device, but there is no usable node for it here.
  public static let deviceMissing = HostCause(kind: .deviceMissing)
  /// The device node is there, but a control group for devices does not let this process open it.
  public static let deviceControl = HostCause(kind: .deviceControl)
  /// A seccomp filter forbids the system call.
  public static let seccompFilter = HostCause(kind: .seccompFilter)
  /// The kernel was built without `CONFIG_USERFAULTFD`.
  public static let kernelConfiguration = HostCause(kind: .kernelConfiguration)
  /// The kernel is older than this way to a userfaultfd.
  public static let kernelTooOld = HostCause(kind: .kernelTooOld)
  /// The kernel is gVisor, which has no userfaultfd.
  public static let gVisor = HostCause(kind: .gVisor)
  /// A security module, such as SELinux, or a mount option forbids it.
  public static let securityModule = HostCause(kind: .securityModule)
  /// The process, or the whole system, has as many files open as its limit permits.
  public static let openFiles = HostCause(kind: .openFiles)
  /// None of the other causes explains the kernel's answer.
  public static let unknown = HostCause(kind: .unknown)

  /// All causes that this version of the library knows.
  public static let allCases: [HostCause] = Kind.allCases.map { HostCause(kind: $0) }

  /// The cause with this name; nil where this version of the library knows none.
  public init?(rawValue: String) {
    guard let kind = Kind(rawValue: rawValue) else { return nil }
    self.init(kind: kind)
  }

  /// The name of the cause, such as `seccomp`, as it appears in the JSON of `lazy-mem-demo doctor`.
  public var rawValue: String { kind.rawValue }

  // These are written out, because otherwise the standard library compares and hashes the raw value.

  /// Whether both are the same cause.
  public static func == (left: HostCause, right: HostCause) -> Bool { left.kind == right.kind }

  /// Hashes the cause.
  public func hash(into hasher: inout Hasher) { hasher.combine(kind) }
}

extension HostCause: CustomStringConvertible {
  /// The name, as ``rawValue`` has it.
  public var description: String { rawValue }
}
