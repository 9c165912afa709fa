/// What was seen of the host, and nothing concluded from it. Nil is what the host does not tell.
struct HostFacts: Hashable, Sendable {
  /// What a way to a userfaultfd answered.
  enum Attempt: Hashable, Sendable {
    case granted(UserfaultfdFeatures)
    case refused(KernelErrno)
    /// A filter killed the process that tried.
    case killed
  }

  /// The node of the device.
  struct Node: Hashable, Sendable {
    var mode: UInt32
    var user: UInt32
    var group: UInt32
    /// Whether its rights let this process read and write it.
    var isAccessible: Bool
  }

  /// What `uname(2)` says.
  var release = ""
  var systemVersion = ""
  var machine = ""
  var pageByteCount = 0

  var attempts: [DescriptorKind: Attempt] = [:]

  /// `vm.unprivileged_userfaultfd`; nil where there is no such file. It is there exactly where the kernel has userfaultfd (5.2).
  var unprivilegedSetting: Int?
  /// Whether other settings of its folder can be read: only then its absence says something.
  var showsSettings = false
  /// What `/proc/misc` lists for the device (6.1).
  var miscDevice = MiscDevice.notTold
  /// Nil where there is no node.
  var node: Node?

  enum MiscDevice: Hashable, Sendable {
    case notTold
    case absent
    case number(Int)
  }

  var process = ProcessFacts()
  var isContainer = false
  var isVirtualMachine: Bool?
  var limits = HostLimits()
}

/// What the kernel says of this process in `/proc/self`.
struct ProcessFacts: Hashable, Sendable {
  var effectiveUser: UInt32 = 0
  var effectiveCapabilities: UInt64?
  var boundingCapabilities: UInt64?
  var noNewPrivileges: Bool?
  /// 0 for none, 1 strict, 2 a filter.
  var seccompMode: Int?
  var userMap: UserMap?
  /// The program's file.
  var executable: String?
}

extension ProcessFacts {
  /// The number of `CAP_SYS_PTRACE`.
  static let ptrace = 19

  /// Takes what it knows from the text of `/proc/self/status`.
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

  /// Whether the kernel takes it for one that may hold up the kernel. It asks in the initial user namespace, whatever a
  /// container calls root.
  var hasPtrace: Bool {
    let holds = effectiveCapabilities.map { $0 & 1 << UInt64(Self.ptrace) != 0 } ?? (effectiveUser == 0)
    return holds && isInInitialUserNamespace
  }

  /// Whether it, or a program that it starts, could ever have the capability.
  var mayGainPtrace: Bool { boundingCapabilities.map { $0 & 1 << UInt64(Self.ptrace) != 0 } ?? true }
}

/// How the users of this process's user namespace are called outside of it: the text of `/proc/self/uid_map`.
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

  /// Only the first namespace maps every user to itself.
  var isInitial: Bool { lines == [Line(inside: 0, outside: 0, count: UInt32.max)] }

  /// The number that the namespace above has for `user`; nil where it has none.
  func outside(_ user: UInt32) -> UInt32? {
    for line in lines where user >= line.inside && user - line.inside < line.count {
      return line.outside &+ (user - line.inside)
    }
    return nil
  }
}

extension HostFacts {
  var version: KernelVersion? { isGVisor ? nil : KernelVersion(release: release) }

  /// gVisor calls itself Linux, of different versions, but has always had the same date.
  var isGVisor: Bool {
    release.contains("gvisor") || systemVersion.contains("Sun Jan 10 15:06:54 PST 2016")
  }

  /// Whether a descriptor that serves the kernel's own faults is anybody's whom no filter keeps from it.
  var hasRightsForFull: Bool {
    if process.hasPtrace { return true }
    if let unprivilegedSetting { return unprivilegedSetting != 0 }
    // Before 5.2 nobody asked for rights.
    return version.map { $0 < KernelVersion(5, 2) } ?? false
  }

  /// What a userfaultfd can do here; nil where none could be had.
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
