/// Errors that come up while a delivery is chosen and made ready.
extension FaultRuntimeError {
  static func unavailable(_ error: Userfaultfd.Unavailable) -> Self {
    unavailable(HostFacts.ofThisHost(after: error.refusals), error.refusals)
  }

  /// Makes the error of a host with these facts, which has refused these ways.
  static func unavailable(_ facts: HostFacts, _ refusals: [Userfaultfd.Refusal]) -> Self {
    let tried = refusals.map { "\($0.kind.rawValue): \($0.errno)" }.joined(separator: ", ")
    return Self(
      .userfaultfdUnavailable,
      "this host does not allow userfaultfd (\(tried))",
      // The error has an errno only for a cause within this process. Without one, the host is the cause, and the
      // runtime may do without a userfaultfd.
      errno: refusals.first { $0.errno == .tooManyOpenFiles }?.errno,
      advice: advice(facts, refusals), brief: brief(facts, refusals)
    )
  }

  /// Returns advice: why the first way that was tried is closed, and the least that would open it; then the same for
  /// the other ways, as far as they are closed for another cause.
  private static func advice(_ facts: HostFacts, _ refusals: [Userfaultfd.Refusal]) -> String {
    var said: [String] = []
    var causes: Set<HostCause> = []
    for refusal in refusals {
      guard let cause = facts.causes(of: refusal.kind).first, causes.insert(cause).inserted else { continue }
      let remedy = facts.remedies(for: cause, of: refusal.kind).first
      let help = remedy.map { "; to \($0.action)" + ($0.command.map { ": \($0)" } ?? "") } ?? ""
      said.append(facts.explanation(of: cause, for: refusal.kind) + help)
    }
    // A program that asked for a descriptor which serves system calls may be able to do without that. The advice
    // makes sense only where the call itself is not forbidden.
    let isForbidden = facts.causes(of: .userModeOnly) == [.seccompFilter]
    if !isForbidden, refusals.allSatisfy({ $0.kind.servesKernelModeFaults && $0.errno != .noFunction }) {
      said.append("or accept a user-mode-only descriptor")
    }
    return said.joined(separator: "; ")
  }

  /// Returns the cause and the remedy of the first way that was tried, for a notice of one line.
  private static func brief(
    _ facts: HostFacts, _ refusals: [Userfaultfd.Refusal]
  ) -> (cause: String, remedy: String?)? {
    guard let kind = refusals.first?.kind, let cause = facts.causes(of: kind).first else { return nil }
    return (facts.explanation(of: cause, for: kind), facts.remedies(for: cause, of: kind).first?.brief)
  }

  static func cannotStart(_ error: HostCallError) -> Self {
    let cause = error.shortage ?? MemoryFacts.ofThisProcess().shortage(mapping: 0, error.errno)
    return Self(
      .cannotStart, "cannot start to serve faults: \(error.call) failed", errno: error.errno,
      advice: cause.map { "\($0)" })
  }

  static func cannotKeepCPUsAwake(_ error: HostCallError) -> Self {
    let advice: String? =
      switch error.errno {
      case .permissionDenied, .notPermitted:
        "run as root, let the administrator give the user write access to the device, or leave keepsCPUsAwake off"
      case .noSuchFileOrDirectory:
        "the kernel has no such device, or a container hides it (--device \(error.call)); leave keepsCPUsAwake off"
      case .tooManyOpenFiles:
        "raise RLIMIT_NOFILE"
      default:
        nil
      }
    return Self(
      .cannotKeepCPUsAwake, "cannot keep CPUs awake with \(error.call)", errno: error.errno, advice: advice)
  }

  static func invalidConfiguration(_ message: String) -> Self {
    Self(.invalidConfiguration, message)
  }

  static func featureMissing(_ name: String, since version: String) -> Self {
    Self(.featureMissing, "this kernel has no \(name)", advice: "it needs Linux \(version)")
  }

  /// Whether the cause is that the host allows no userfaultfd, and not the state of this process.
  var isOfHost: Bool { code == .userfaultfdUnavailable && errno == nil }

  static func providerForbidsDelivery(name: String) -> Self {
    Self(
      .providerForbidsDelivery, "the provider of region '\(name)' must not run on the faulting thread",
      advice: """
        use Delivery.auto or Delivery.eventLoop, or let it permit .signalHandler and .concurrentRequests where it \
        keeps the rules
        """)
  }

  static func timeoutForbidsDelivery(name: String, without missing: Self? = nil) -> Self {
    if let missing {
      return Self(
        .providerForbidsDelivery,
        """
        region '\(name)' has a timeout, which its faulting threads cannot keep, and nothing else can serve it: \
        \(missing.message)
        """,
        advice: "map it without a timeout; or \(missing.advice ?? "use another host")")
    }
    return Self(
      .providerForbidsDelivery, "region '\(name)' has a timeout, which its faulting threads cannot keep",
      advice: "use Delivery.auto or Delivery.eventLoop, or map it without a timeout")
  }
}
