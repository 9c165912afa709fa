/// Which kinds of userfaultfd a runtime may try to open. More choices may be added.
///
/// ```swift
/// let configuration = FaultRuntimeConfiguration(descriptorChoice: .only(.device))
/// let runtime = try FaultRuntime(configuration)
/// ```
public struct DescriptorChoice: Hashable, Sendable {
  private enum Kind: Hashable {
    case automatic
    case only(DescriptorKind)
  }

  private let kind: Kind

  /// The least powerful kind that is enough for the program.
  ///
  /// If system calls have to be served (``FaultRuntimeConfiguration/needsSystemCalls``), the runtime tries the kinds
  /// `full` and `device`, in this order. Otherwise it tries `userModeOnly`, then `deviceUserModeOnly`, and at last
  /// `full`, because kernels before 5.11 have no other kind.
  public static let automatic = DescriptorChoice(kind: .automatic)

  /// Only `kind`. If the host refuses it, making the runtime fails with the code `userfaultfdUnavailable`.
  public static func only(_ kind: DescriptorKind) -> DescriptorChoice { DescriptorChoice(kind: .only(kind)) }

  /// The only kind that may be tried, for a choice that was made with ``only(_:)``; nil for all other choices.
  public var onlyKind: DescriptorKind? { if case .only(let kind) = kind { kind } else { nil } }

  /// Returns the kinds to try, in this order.
  func candidates(servingSystemCalls: Bool) -> [DescriptorKind] {
    switch kind {
    // A program that can delay a page fault of the kernel for any length of time has a tool for attacks on the
    // kernel. For this reason the kinds that only serve user code come first where they are enough.
    case .automatic: servingSystemCalls ? [.full, .device] : [.userModeOnly, .deviceUserModeOnly, .full]
    case .only(let kind): [kind]
    }
  }
}

extension DescriptorChoice: CustomStringConvertible {
  /// `automatic`, or `only` followed by the name of the kind.
  public var description: String { onlyKind.map { "only \($0)" } ?? "automatic" }
}
