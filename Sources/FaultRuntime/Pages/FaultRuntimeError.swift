/// Why something that a program asked of the runtime could not be done: what failed, where, the kernel's reason by name,
/// and what to do about it.
public struct FaultRuntimeError: Error, Sendable {
  /// What kind of failure it was. More may be added.
  public struct Code: Hashable, Sendable {
    fileprivate enum Kind {
      case userfaultfdUnavailable, cannotStart, invalidConfiguration, emptyRegion, requestTooLarge, cannotMap
      case cannotRegister, forkedChild, featureMissing, providerForbidsDelivery
      case cannotKeepCPUsAwake
      case rangeOutOfBounds, regionClosed, prefetchFromProvider, pageFailed
    }
    fileprivate let kind: Kind

    /// The host allows none of the ways to a userfaultfd that may be tried.
    public static let userfaultfdUnavailable = Code(kind: .userfaultfdUnavailable)
    /// A descriptor or a thread of the runtime's own could not be made.
    public static let cannotStart = Code(kind: .cannotStart)
    /// CPUs cannot be kept awake: the process may not write `/dev/cpu_dma_latency`, or there is none.
    public static let cannotKeepCPUsAwake = Code(kind: .cannotKeepCPUsAwake)
    /// A value of the configuration is out of its range.
    public static let invalidConfiguration = Code(kind: .invalidConfiguration)
    /// A region needs at least one byte.
    public static let emptyRegion = Code(kind: .emptyRegion)
    /// A provider wants larger requests than 1 GiB.
    public static let requestTooLarge = Code(kind: .requestTooLarge)
    /// The address space of the region could not be had.
    public static let cannotMap = Code(kind: .cannotMap)
    /// The kernel refused to report the region's faults.
    public static let cannotRegister = Code(kind: .cannotRegister)
    /// The process is a forked child of the one that made the runtime.
    public static let forkedChild = Code(kind: .forkedChild)
    /// The kernel lacks a feature that the configuration needs.
    public static let featureMissing = Code(kind: .featureMissing)
    /// The provider, or the region's timeout, does not permit the delivery that the configuration asks for.
    public static let providerForbidsDelivery = Code(kind: .providerForbidsDelivery)
    /// A range is not within its region.
    public static let rangeOutOfBounds = Code(kind: .rangeOutOfBounds)
    /// The region was closed.
    public static let regionClosed = Code(kind: .regionClosed)
    /// A provider asked its own handler thread to prefetch.
    public static let prefetchFromProvider = Code(kind: .prefetchFromProvider)
    /// A page could not be produced; ``FaultRuntimeError/failure`` says which and why.
    public static let pageFailed = Code(kind: .pageFailed)
  }

  /// What kind of failure it was.
  public let code: Code
  /// What failed, and where, in one line.
  public let message: String
  /// The kernel's reason, where there is one.
  public let errno: KernelErrno?
  /// What to do, in one line, where there is something to do.
  public let advice: String?

  /// The page that failed, for the code `pageFailed`.
  public let failure: PageFailure?

  private init(
    _ code: Code, _ message: String, errno: KernelErrno? = nil, advice: String? = nil, failure: PageFailure? = nil
  ) {
    self.failure = failure
    self.code = code
    self.message = message
    self.errno = errno
    self.advice = advice
  }
}

extension FaultRuntimeError: CustomStringConvertible {
  /// One line: message, errno by name, advice.
  public var description: String {
    let reason = errno.map { " (\($0): \($0.explanation))" } ?? ""
    return message + reason + (advice.map { "; \($0)" } ?? "")
  }
}

extension FaultRuntimeError {
  static func unavailable(_ error: Userfaultfd.Unavailable) -> Self {
    let tried = error.refusals.map { "\($0.kind.rawValue): \($0.errno)" }.joined(separator: ", ")
    return Self(
      .userfaultfdUnavailable,
      "this host does not allow userfaultfd (\(tried))",
      // Only what is a matter of this process: whoever looks for another way does so where there is none.
      errno: error.refusals.first { $0.errno == .tooManyOpenFiles }?.errno,
      advice: advice(for: error.refusals)
    )
  }

  /// Why the first way that was tried is closed, and the least that would open it; then the same of the others, as far as it is new.
  private static func advice(for refusals: [Userfaultfd.Refusal]) -> String {
    let facts = HostFacts.ofThisHost(after: refusals)
    var said: [String] = []
    for refusal in refusals {
      guard let cause = facts.causes(of: refusal.kind).first else { continue }
      let remedy = facts.remedies(for: cause, of: refusal.kind).first
      let help = remedy.map { "; to \($0.action)" + ($0.command.map { ": \($0)" } ?? "") } ?? ""
      let line = facts.explanation(of: cause, for: refusal.kind) + help
      if !said.contains(line) { said.append(line) }
    }
    // Whoever asked for one that serves system calls may do with less, where the call itself is not forbidden.
    if refusals.allSatisfy({ $0.kind.servesKernelModeFaults && $0.errno != .noFunction }) {
      said.append("or accept a user-mode-only descriptor")
    }
    return said.joined(separator: "; ")
  }

  static func cannotStart(_ error: HostCallError) -> Self {
    Self(.cannotStart, "cannot start a handler thread: \(error.call) failed", errno: error.errno)
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

  /// Whether the host refuses a userfaultfd, and not the process its own state.
  var isOfHost: Bool { code == .userfaultfdUnavailable && errno == nil }

  static func providerForbidsDelivery(name: String) -> Self {
    Self(
      .providerForbidsDelivery, "the provider of region '\(name)' must not run on the faulting thread",
      advice: """
        use Delivery.auto or Delivery.eventLoop, or let it permit .signalHandler and .concurrentRequests where it keeps the rules
        """)
  }

  static func timeoutForbidsDelivery(name: String, without missing: Self? = nil) -> Self {
    if let missing {
      return Self(
        .providerForbidsDelivery,
        "region '\(name)' has a timeout, which its faulting threads cannot keep, and nothing else can serve it: \(missing.message)",
        advice: "map it without a timeout; or \(missing.advice ?? "use another host")")
    }
    return Self(
      .providerForbidsDelivery, "region '\(name)' has a timeout, which its faulting threads cannot keep",
      advice: "use Delivery.auto or Delivery.eventLoop, or map it without a timeout")
  }

  static func rangeOutOfBounds(_ region: Region, _ range: Range<Int>) -> Self {
    Self(
      .rangeOutOfBounds,
      "offsets \(range.lowerBound)..<\(range.upperBound) are not within region '\(region.name)' of \(region.byteCount) bytes"
    )
  }

  static func regionClosed(_ region: Region) -> Self {
    Self(.regionClosed, "region '\(region.name)' was closed")
  }

  static func prefetchFromProvider(_ region: Region) -> Self {
    Self(
      .prefetchFromProvider,
      "a provider asked for a prefetch of region '\(region.name)' on the thread that would do it",
      advice: "prefetch from a thread of the program's own")
  }

  static func pageFailed(_ failure: PageFailure) -> Self {
    Self(.pageFailed, failure.description, failure: failure)
  }

  static func forkedChild() -> Self {
    Self(
      .forkedChild, "the runtime belongs to the process that this one was forked from",
      advice: "make a runtime of its own in the child")
  }

  static func emptyRegion(name: String, byteCount: Int) -> Self {
    Self(
      .emptyRegion, "region '\(name)' would have \(byteCount) bytes",
      advice: "a region has at least one byte; treat empty sources before mapping them")
  }

  static func requestTooLarge(name: String, byteCount: Int) -> Self {
    Self(
      .requestTooLarge, "the provider of region '\(name)' wants requests of \(byteCount) bytes",
      advice: "a request has at most \(Region.largestRequestLimit) bytes")
  }

  static func cannotMap(_ name: String, _ byteCount: Int, _ errno: KernelErrno) -> Self {
    Self(
      .cannotMap, "cannot map \(byteCount) bytes for region '\(name)'", errno: errno,
      advice: errno == .noMemory
        ? "the address space is used up, or RLIMIT_AS, vm.max_map_count or vm.overcommit_memory=2 forbids it" : nil)
  }

  static func cannotRegister(_ region: Region, _ errno: KernelErrno) -> Self {
    Self(
      .cannotRegister, "cannot register \(region.byteCount) bytes of region '\(region.name)' with userfaultfd",
      errno: errno, advice: errno == .noMemory ? "vm.max_map_count is reached; map fewer, larger regions" : nil)
  }
}
