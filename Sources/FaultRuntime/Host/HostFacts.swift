/// What the library has seen of the host, without any conclusion. Nil means that the host does not tell.
struct HostFacts: Hashable, Sendable {
  /// The answer of one way to a userfaultfd.
  enum Attempt: Hashable, Sendable {
    case granted(UserfaultfdFeatures)
    case refused(KernelErrno)
    /// A filter killed the process that tried.
    case killed
  }

  /// The node `/dev/userfaultfd`.
  struct Node: Hashable, Sendable {
    var mode: UInt32
    var user: UInt32
    var group: UInt32
    /// Whether the permissions of the node let this process read and write it.
    var isAccessible: Bool
  }

  /// The answers of `uname(2)`.
  var release = ""
  var systemVersion = ""
  var machine = ""
  var pageByteCount = 0

  var attempts: [DescriptorKind: Attempt] = [:]

  /// The setting `vm.unprivileged_userfaultfd`; nil where there is no such file. Since Linux 5.2 the file is there
  /// exactly where the kernel has userfaultfd.
  var unprivilegedSetting: Int?
  /// Whether other settings in the same folder can be read. Only then does the absence of the file mean anything.
  var showsSettings = false
  /// What `/proc/misc` lists for the device, which Linux has since 6.1.
  var miscDevice = MiscDevice.notTold
  /// The node of the device; nil where there is none.
  var node: Node?

  enum MiscDevice: Hashable, Sendable {
    case notTold
    case absent
    case number(Int)
  }

  var process = ProcessFacts()
  var containing = ContainerFacts()
  var isVirtualMachine: Bool?
  /// Whether shared memory has guard markers (`MADV_GUARD_INSTALL`, Linux 6.15).
  var hasGuardMarkers: Bool?
  var limits = HostLimits()
}

/// What the kernel says about this process, most of it in `/proc/thread-self`. In `/proc/self` are the facts of the
/// first thread. That thread may have ended. In a program with an asynchronous `main` it keeps the rights that it had
/// at first, because the C library takes it for a thread that ends.
struct ProcessFacts: Hashable, Sendable {
  var effectiveUser: UInt32 = 0
  var effectiveCapabilities: UInt64?
  var boundingCapabilities: UInt64?
  var noNewPrivileges: Bool?
  /// The seccomp mode: 0 for none, 1 for strict, 2 for a filter.
  var seccompMode: Int?
  var userMap: UserMap?
  /// The path of the program's file.
  var executable: String?
}

extension ProcessFacts {
  /// The number of `CAP_SYS_PTRACE`.
  static let ptrace = 19

  /// Takes the facts that it knows from the text of `/proc/thread-self/status`.
  mutating func read(status: String) {
    for line in status.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2, let value = parts[1].split(whereSeparator: { $0 == "\t" || $0 == " " }).first else {
        continue
      }
      switch parts[0] {
      case "CapEff": effectiveCapabilities = UInt64(value, radix: 16)
      case "CapBnd": boundingCapabilities = UInt64(value, radix: 16)
      case "NoNewPrivs": noNewPrivileges = Int(value).map { $0 != 0 }
      case "Seccomp": seccompMode = Int(value)
      default: break
      }
    }
  }

  var isFiltered: Bool { seccompMode == 2 }

  var isInInitialUserNamespace: Bool { userMap?.isInitial ?? true }

  /// Whether the process has `CAP_SYS_PTRACE` in the initial user namespace. The kernel asks there before a process
  /// may hold up the kernel in a fault; a root user of a container does not count.
  var hasPtrace: Bool {
    let holds = effectiveCapabilities.map { $0 & 1 << UInt64(Self.ptrace) != 0 } ?? (effectiveUser == 0)
    return holds && isInInitialUserNamespace
  }

  /// Whether the process, or a program that it starts, could ever have the capability.
  var mayGainPtrace: Bool { boundingCapabilities.map { $0 & 1 << UInt64(Self.ptrace) != 0 } ?? true }
}

/// The numbers that the users of this process's user namespace have in the namespace above: the text of
/// `/proc/thread-self/uid_map`.
struct UserMap: Hashable, Sendable {
  struct Line: Hashable, Sendable {
    var inside: UInt32
    var outside: UInt32
    var count: UInt32
  }

  var lines: [Line]

  init?(_ text: String) {
    lines = text.split(separator: "\n").compactMap { line in
      let numbers = line.split(separator: " ").compactMap { UInt32($0) }
      return numbers.count == 3 ? Line(inside: numbers[0], outside: numbers[1], count: numbers[2]) : nil
    }
    if lines.isEmpty { return nil }
  }

  /// Whether the namespace is the initial one, which is the only one that maps every user to itself.
  var isInitial: Bool { lines == [Line(inside: 0, outside: 0, count: UInt32.max)] }

  /// Returns the number that the namespace above has for `user`; nil where it has none.
  func outside(_ user: UInt32) -> UInt32? {
    for line in lines where user >= line.inside && user - line.inside < line.count {
      return line.outside &+ (user - line.inside)
    }
    return nil
  }
}

extension HostFacts {
  var version: KernelVersion? { isGVisor ? nil : KernelVersion(release: release) }

  /// gVisor presents itself as Linux, with varying versions, but its version text has always contained the same date.
  var isGVisor: Bool {
    release.contains("gvisor") || systemVersion.contains("Sun Jan 10 15:06:54 PST 2016")
  }

  /// Whether the process has the rights for a descriptor that serves faults in system calls. A filter may forbid the
  /// call all the same.
  var hasRightsForFull: Bool {
    if process.hasPtrace { return true }
    if let unprivilegedSetting { return unprivilegedSetting != 0 }
    // Before Linux 5.2 the kernel asked for no rights.
    return version.map { $0 < KernelVersion(5, 2) } ?? false
  }

  /// The features that a userfaultfd has on this host; nil where no way to one is open.
  var features: UserfaultfdFeatures? {
    for kind in DescriptorKind.allCases {
      if case .granted(let features)? = attempts[kind] { return features }
    }
    return nil
  }

  func isGranted(_ kind: DescriptorKind) -> Bool {
    if case .granted? = attempts[kind] { true } else { false }
  }
}
