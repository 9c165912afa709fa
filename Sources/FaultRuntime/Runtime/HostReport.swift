/// What a host allows a program with lazy memory to do, what it forbids and why, and what would change that.
///
/// ```swift
/// let report = HostReport()
/// if !report.autoWorks { print(report.userModeFaults.reason) }
/// for way in report.ways {
///   for finding in way.findings { print("\(way.kind): \(finding.text)", finding.remedies.first?.action ?? "") }
/// }
/// ```
public struct HostReport: Hashable, Sendable {
  /// One way to a userfaultfd, and whether it is open.
  public struct Way: Hashable, Sendable {
    /// The kind of userfaultfd that this way leads to.
    public let kind: DescriptorKind
    /// Whether this process gets a descriptor that way.
    public let isAvailable: Bool
    /// The error of the kernel, or of a seccomp filter in front of it; nil where the way is open, and where a filter
    /// kills the process that tries.
    public let errno: KernelErrno?
    /// The reasons why the way is closed, the most important one first; empty where the way is open.
    public let findings: [Finding]
  }

  /// A reason why a way to a userfaultfd is closed.
  public struct Finding: Hashable, Sendable {
    /// The kind of reason.
    public let cause: HostCause
    /// What the cause means on this host, in one line.
    public let text: String
    /// What would help against the cause, the smallest step first. Where several findings of one way are about
    /// missing rights, the remedy for one of them is enough.
    public let remedies: [HostRemedy]
  }

  /// The release of the kernel, as `uname(2)` tells it, such as `6.18.44`.
  public let kernelRelease: String
  /// The architecture, as `uname(2)` tells it, such as `x86_64`.
  public let architecture: String
  /// The number of bytes in a page.
  public let pageSize: Int
  /// Whether the kernel is gVisor.
  public let isGVisor: Bool
  /// Whether the host is a virtual machine, as far as its hypervisor shows itself; nil where the processor cannot
  /// say. On a virtual machine it takes longer to wake a thread on another CPU; ``HandlerPlacement`` avoids that.
  public let isVirtualMachine: Bool?
  /// Whether the process runs in a container, as far as its namespaces, cgroups and mounts show.
  public let isContainer: Bool
  /// What shows that the process runs in a container, each in a few words, such as `a PID namespace of its own`;
  /// empty where ``isContainer`` is false.
  public let containerEvidence: [String]
  /// The number of the process's effective user.
  public let user: UInt32
  /// Whether the process has `CAP_SYS_PTRACE` in the initial user namespace, which is the one that counts for
  /// userfaultfd.
  public let hasPtraceCapability: Bool
  /// Whether a seccomp filter is in force, whatever it forbids; nil where the kernel does not say.
  public let hasSeccompFilter: Bool?
  /// Whether `no_new_privs` is set, which keeps a program that the process starts from gaining rights; nil where the
  /// kernel does not say.
  public let hasNoNewPrivileges: Bool?
  /// The features of userfaultfd, bit by bit, and whether this kernel has them.
  public let features: [HostFeature]
  /// All ways to a userfaultfd, whether they are open or closed.
  public let ways: [Way]
  /// Settings and limits that a program may meet.
  public let limits: HostLimits
  /// The limits that a program is likely to meet on this host, each in one line.
  public let warnings: [String]
  /// What ``Delivery/auto`` does for faults of user code.
  public let userModeFaults: HostPick
  /// What ``Delivery/auto`` does where system calls have to be served
  /// (``FaultRuntimeConfiguration/needsSystemCalls``).
  public let kernelModeFaults: HostPick

  /// Whether a runtime with ``Delivery/auto`` can be made here, with or without service for system calls.
  public var autoWorks: Bool { userModeFaults.delivery != nil || kernelModeFaults.delivery != nil }

  /// Looks at the host, as this process sees it.
  ///
  /// The report tries every way to a userfaultfd for real, each in a child process that lives for a few system calls,
  /// because a seccomp filter may kill the process that tries. It changes nothing and keeps no descriptor. The call
  /// blocks for some milliseconds, and may be made from any thread. The signals of the thread are blocked meanwhile,
  /// except those of its own faults.
  public init() { self = withoutCancellation { holdingSignals { HostReport(HostFacts.ofThisHost()) } } }

  private static let noGuards = """
    this kernel has no guard markers for sigsegv (Linux 6.15 has): where the program changes the protection of a \
    region, or moves memory inside of it, pages that have not come read as zero
    """

  init(_ facts: HostFacts) {
    kernelRelease = facts.release
    architecture = facts.machine
    pageSize = facts.pageByteCount
    isGVisor = facts.isGVisor
    isVirtualMachine = facts.isVirtualMachine
    let container = facts.container
    isContainer = container != nil
    containerEvidence = container?.evidence ?? []
    user = facts.process.effectiveUser
    hasPtraceCapability = facts.process.hasPtrace
    hasSeccompFilter = facts.process.seccompMode.map { $0 == 2 }
    hasNoNewPrivileges = facts.process.noNewPrivileges
    features = HostFeature.all(of: facts.features)
    ways = DescriptorKind.allCases.map { Way($0, facts) }
    limits = facts.limits
    userModeFaults = facts.pick(servingSystemCalls: false)
    let lacksGuards = userModeFaults.delivery == .sigsegv && facts.hasGuardMarkers == false
    warnings = facts.limits.warnings + (lacksGuards ? [Self.noGuards] : [])
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
