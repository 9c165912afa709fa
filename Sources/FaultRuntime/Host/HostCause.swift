/// Why a way to a userfaultfd is closed. More causes may be added.
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

  /// Switched over inside the module, where every cause has to be thought of.
  let kind: Kind

  private init(kind: Kind) { self.kind = kind }

  /// `vm.unprivileged_userfaultfd` is 0, and the process has no right of its own.
  public static let unprivilegedSetting = HostCause(kind: .unprivilegedSetting)
  /// The process has no `CAP_SYS_PTRACE` that counts in the initial user namespace.
  public static let missingCapability = HostCause(kind: .missingCapability)
  /// The rights of the device node leave this user out.
  public static let devicePermissions = HostCause(kind: .devicePermissions)
  /// The kernel has the device, and there is no usable node for it here.
  public static let deviceMissing = HostCause(kind: .deviceMissing)
  /// The node may be opened, but a control group for devices forbids it.
  public static let deviceControl = HostCause(kind: .deviceControl)
  /// A seccomp filter forbids the system call.
  public static let seccompFilter = HostCause(kind: .seccompFilter)
  /// The kernel was built without `CONFIG_USERFAULTFD`.
  public static let kernelConfiguration = HostCause(kind: .kernelConfiguration)
  /// The kernel is older than this way.
  public static let kernelTooOld = HostCause(kind: .kernelTooOld)
  /// What answers is gVisor, which has no userfaultfd.
  public static let gVisor = HostCause(kind: .gVisor)
  /// A security module, such as SELinux, or a mount option forbids it.
  public static let securityModule = HostCause(kind: .securityModule)
  /// The process has as many descriptors open as it may.
  public static let openFiles = HostCause(kind: .openFiles)
  /// None of these explains what the kernel said.
  public static let unknown = HostCause(kind: .unknown)

  /// All causes that this version of the library knows.
  public static let allCases: [HostCause] = Kind.allCases.map { HostCause(kind: $0) }

  /// The cause with this name; nil where this version of the library knows none.
  public init?(rawValue: String) {
    guard let kind = Kind(rawValue: rawValue) else { return nil }
    self.init(kind: kind)
  }

  /// Its name, such as `seccomp`, as the JSON of `lazy-mem-demo doctor` has it.
  public var rawValue: String { kind.rawValue }

  // Written out, because for a type with a raw value the standard library would compare and hash that.

  /// Whether both are the same cause.
  public static func == (left: HostCause, right: HostCause) -> Bool { left.kind == right.kind }

  /// Hashes the cause.
  public func hash(into hasher: inout Hasher) { hasher.combine(kind) }
}

extension HostCause: CustomStringConvertible {
  /// The name, as ``rawValue`` has it.
  public var description: String { rawValue }
}
