/// What a host allows a program with lazy memory to do, why not more, and what would change that.
///
/// ```swift
/// let report = HostReport()
/// if !report.autoWorks { print(report.userModeFaults.reason) }
/// ```
public struct HostReport: Hashable, Sendable {
  /// A way to a userfaultfd.
  public struct Way: Hashable, Sendable {
    /// Which one.
    public let kind: DescriptorKind
    /// Whether this process gets a descriptor that way.
    public let isAvailable: Bool
    /// What the kernel, or a filter before it, said; nil where the way is open, or where a filter kills whoever tries.
    public let errno: KernelErrno?
    /// Why it is closed, what weighs most first; empty where it is open.
    public let findings: [Finding]
  }

  /// A reason for which a way is closed.
  public struct Finding: Hashable, Sendable {
    /// What kind of reason it is.
    public let cause: HostCause
    /// What it is here, in one line.
    public let text: String
    /// What would help against it, the least first. Where several findings are of rights, one of them is enough.
    public let remedies: [HostRemedy]
  }

  /// What the kernel calls itself, such as `6.18.44`.
  public let kernelRelease: String
  /// The architecture, as the kernel calls it.
  public let architecture: String
  /// Bytes in a page.
  public let pageSize: Int
  /// Whether the kernel is gVisor's.
  public let isGVisor: Bool
  /// Whether a hypervisor says that it is there; nil where the processor cannot say. On a virtual machine it costs more to wake
  /// a thread on another CPU, which is what ``HandlerPlacement`` is about.
  public let isVirtualMachine: Bool?
  /// Whether this looks like a container.
  public let isContainer: Bool
  /// The effective user of this process.
  public let user: UInt32
  /// Whether this process has a `CAP_SYS_PTRACE` that the kernel counts for userfaultfd.
  public let hasPtraceCapability: Bool
  /// Whether a seccomp filter is in force, whatever it forbids; nil where the kernel does not say.
  public let hasSeccompFilter: Bool?
  /// Whether `no_new_privs` is set, which keeps programs that are started from gaining rights; nil where the kernel does not say.
  public let hasNoNewPrivileges: Bool?
  /// What a userfaultfd can do here, bit by bit.
  public let features: [HostFeature]
  /// All ways to a userfaultfd, open or not.
  public let ways: [Way]
  /// Settings and limits that a program may meet.
  public let limits: HostLimits
  /// Those of the limits that will bite, each in one line.
  public let warnings: [String]
  /// What ``Delivery/auto`` does for faults of user code.
  public let userModeFaults: HostPick
  /// What it does where system calls have to be served (``FaultRuntimeConfiguration/needsSystemCalls``).
  public let kernelModeFaults: HostPick

  /// Whether a runtime with ``Delivery/auto`` can be made here, with system calls served or without.
  public var autoWorks: Bool { userModeFaults.delivery != nil || kernelModeFaults.delivery != nil }

  /// Looks at the host, as this process sees it.
  ///
  /// Every way to a userfaultfd is tried for real, by a child that lives for a few system calls, because a filter may kill whoever
  /// tries. Nothing is changed, and no descriptor is kept. Blocks for some milliseconds; may be called on any thread.
  public init() { self.init(HostFacts.ofThisHost()) }

  init(_ facts: HostFacts) {
    kernelRelease = facts.release
    architecture = facts.machine
    pageSize = facts.pageByteCount
    isGVisor = facts.isGVisor
    isVirtualMachine = facts.isVirtualMachine
    isContainer = facts.isContainer
    user = facts.process.effectiveUser
    hasPtraceCapability = facts.process.hasPtrace
    hasSeccompFilter = facts.process.seccompMode.map { $0 == 2 }
    hasNoNewPrivileges = facts.process.noNewPrivileges
    features = HostFeature.all(of: facts.features)
    ways = DescriptorKind.allCases.map { Way($0, facts) }
    limits = facts.limits
    warnings = facts.limits.warnings
    userModeFaults = facts.pick(servingSystemCalls: false)
    kernelModeFaults = facts.pick(servingSystemCalls: true)
  }
}

extension HostReport.Way {
  fileprivate init(_ kind: DescriptorKind, _ facts: HostFacts) {
    self.kind = kind
    isAvailable = facts.isGranted(kind)
    errno = if case .refused(let errno)? = facts.attempts[kind] { errno } else { nil }
    findings = facts.causes(of: kind).map { cause in
      HostReport.Finding(
        cause: cause, text: facts.explanation(of: cause, for: kind), remedies: facts.remedies(for: cause, of: kind))
    }
  }
}
