/// How a userfaultfd is opened, which decides which faults it can serve. More kinds may be added.
public struct DescriptorKind: RawRepresentable, Hashable, Sendable, CaseIterable {
  enum Kind: String, CaseIterable {
    case full, device
    case userModeOnly = "user-mode-only"
    case deviceUserModeOnly = "device-user-mode-only"
  }

  /// The module switches over this enum, so that the compiler reports every place that does not handle a new kind.
  let kind: Kind

  private init(kind: Kind) { self.kind = kind }

  /// `userfaultfd(2)` without restriction. It serves faults of user code and of system calls. The process needs
  /// `CAP_SYS_PTRACE`, or `vm.unprivileged_userfaultfd` has to be 1.
  public static let full = DescriptorKind(kind: .full)

  /// `/dev/userfaultfd` (Linux 6.1) without restriction. It serves the same faults as ``full``, in every process that
  /// may open the device node.
  public static let device = DescriptorKind(kind: .device)

  /// `userfaultfd(2)` with `UFFD_USER_MODE_ONLY` (Linux 5.11). It serves faults of user code only, and needs no
  /// privilege. A system call that meets a page which is not resident fails with `EFAULT` instead of waiting.
  public static let userModeOnly = DescriptorKind(kind: .userModeOnly)

  /// `/dev/userfaultfd` (Linux 6.1) with `UFFD_USER_MODE_ONLY`. It serves the same faults as ``userModeOnly``, in
  /// every process that may open the device node, even if a filter forbids the system call `userfaultfd(2)`.
  public static let deviceUserModeOnly = DescriptorKind(kind: .deviceUserModeOnly)

  /// All kinds that this version of the library knows.
  public static let allCases: [DescriptorKind] = Kind.allCases.map { DescriptorKind(kind: $0) }

  /// Creates the kind with the name `rawValue`. Returns nil if this version of the library knows no such kind.
  public init?(rawValue: String) {
    guard let kind = Kind(rawValue: rawValue) else { return nil }
    self.init(kind: kind)
  }

  /// The name: `full`, `device`, `user-mode-only` or `device-user-mode-only`.
  public var rawValue: String { kind.rawValue }

  // These two functions are written out, because the standard library would compare and hash the raw value.

  /// Returns whether both are the same kind.
  public static func == (left: DescriptorKind, right: DescriptorKind) -> Bool { left.kind == right.kind }

  /// Hashes the kind.
  public func hash(into hasher: inout Hasher) { hasher.combine(kind) }

  /// Whether the runtime serves the faults of a system call that touches lazy memory. If not, the call fails with
  /// `EFAULT`.
  public var servesKernelModeFaults: Bool {
    switch kind {
    case .full, .device: true
    case .userModeOnly, .deviceUserModeOnly: false
    }
  }
}

extension DescriptorKind: CustomStringConvertible {
  /// The same text as ``rawValue``.
  public var description: String { rawValue }
}

extension DescriptorKind {
  /// Whether this kind is opened through the device node.
  var isOfDevice: Bool {
    switch kind {
    case .device, .deviceUserModeOnly: true
    case .full, .userModeOnly: false
    }
  }
}
