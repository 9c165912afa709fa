/// Which of the ways to a userfaultfd was taken. They differ in the faults that they can serve. More ways may be added.
public struct DescriptorKind: RawRepresentable, Hashable, Sendable, CaseIterable {
  enum Kind: String, CaseIterable {
    case full, device
    case userModeOnly = "user-mode-only"
    case deviceUserModeOnly = "device-user-mode-only"
  }

  /// Switched over inside the module, where every way has to be thought of.
  let kind: Kind

  private init(kind: Kind) { self.kind = kind }

  /// `userfaultfd(2)` without restriction: faults of user code and of system calls. Needs `CAP_SYS_PTRACE`, or
  /// `vm.unprivileged_userfaultfd` at 1.
  public static let full = DescriptorKind(kind: .full)

  /// `/dev/userfaultfd` (Linux 6.1): the same abilities, for whoever may open the device node.
  public static let device = DescriptorKind(kind: .device)

  /// `userfaultfd(2)` with `UFFD_USER_MODE_ONLY` (Linux 5.11): faults of user code only, for everybody. A system call
  /// that meets a page which is not resident fails with `EFAULT` instead of waiting.
  public static let userModeOnly = DescriptorKind(kind: .userModeOnly)

  /// `/dev/userfaultfd` with `UFFD_USER_MODE_ONLY`: the same, where a filter forbids the system call.
  public static let deviceUserModeOnly = DescriptorKind(kind: .deviceUserModeOnly)

  /// All ways that this version of the library knows.
  public static let allCases: [DescriptorKind] = Kind.allCases.map { DescriptorKind(kind: $0) }

  /// The way with this name; nil where this version of the library knows none.
  public init?(rawValue: String) {
    guard let kind = Kind(rawValue: rawValue) else { return nil }
    self.init(kind: kind)
  }

  /// Its name: `full`, `device`, `user-mode-only` or `device-user-mode-only`.
  public var rawValue: String { kind.rawValue }

  // Written out, because for a type with a raw value the standard library would compare and hash that.

  /// Whether both are the same way.
  public static func == (left: DescriptorKind, right: DescriptorKind) -> Bool { left.kind == right.kind }

  /// Hashes the way.
  public func hash(into hasher: inout Hasher) { hasher.combine(kind) }

  /// Whether a system call that touches lazy memory is served.
  public var servesKernelModeFaults: Bool {
    switch kind {
    case .full, .device: true
    case .userModeOnly, .deviceUserModeOnly: false
    }
  }
}

extension DescriptorKind: CustomStringConvertible {
  /// The name, as ``rawValue`` has it.
  public var description: String { rawValue }
}

extension DescriptorKind {
  /// Whether it comes from the device node.
  var isOfDevice: Bool {
    switch kind {
    case .device, .deviceUserModeOnly: true
    case .full, .userModeOnly: false
    }
  }
}
