/// Which ways to a userfaultfd a runtime may try. More choices may be added.
public struct DescriptorChoice: Hashable, Sendable {
  private enum Kind: Hashable {
    case automatic
    case only(DescriptorKind)
  }

  private let kind: Kind

  /// No more than is needed. Where system calls have to be served (``FaultRuntimeConfiguration/needsSystemCalls``): full, then
  /// the device. Otherwise user-mode-only, by the system call or else by the device; and full, on kernels before 5.11, which
  /// know nothing else.
  public static let automatic = DescriptorChoice(kind: .automatic)

  /// This kind or an error.
  public static func only(_ kind: DescriptorKind) -> DescriptorChoice { DescriptorChoice(kind: .only(kind)) }

  /// The one kind that may be tried, for a choice that ``only(_:)`` made; nil for the others.
  public var onlyKind: DescriptorKind? { if case .only(let kind) = kind { kind } else { nil } }

  /// What to try, in this order.
  func candidates(servingSystemCalls: Bool) -> [DescriptorKind] {
    switch kind {
    // A fault of the kernel's that a program can hold up as long as it likes is a tool for attacks on the kernel.
    case .automatic: servingSystemCalls ? [.full, .device] : [.userModeOnly, .deviceUserModeOnly, .full]
    case .only(let kind): [kind]
    }
  }
}

extension DescriptorChoice: CustomStringConvertible {
  /// `automatic`, or `only` and the name of the kind.
  public var description: String { onlyKind.map { "only \($0)" } ?? "automatic" }
}
