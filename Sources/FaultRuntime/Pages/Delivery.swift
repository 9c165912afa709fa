/// How faults are delivered to their provider. More ways may be added.
public struct Delivery: RawRepresentable, Hashable, Sendable, CaseIterable {
  enum Kind: String, CaseIterable {
    case auto
    case eventLoop = "event-loop"
    case sigbus, sigsegv
  }

  /// Switched over inside the module, where every way has to be thought of.
  let kind: Kind

  private init(kind: Kind) { self.kind = kind }

  /// The best way for each region: `sigbus` where the provider permits it, system calls need not be served and the region has
  /// no deadline, the event loop otherwise; `sigsegv` where the host allows no userfaultfd.
  public static let auto = Delivery(kind: .auto)

  /// Messages of a userfaultfd, read in batches by threads of the runtime's own. For every provider, and for system calls
  /// where the descriptor allows that.
  public static let eventLoop = Delivery(kind: .eventLoop)

  /// The thread that faulted runs the provider itself, in a handler of SIGBUS (`UFFD_FEATURE_SIGBUS`). The lowest latency;
  /// for providers that permit it (``ProviderPermissions/signalHandler``). System calls that meet a page which is not
  /// resident get `EFAULT`, and a thread that blocks SIGBUS is killed by a touch. Where the kernel does not tell a poisoned
  /// page from a missing one (without `CONFIG_MEMORY_FAILURE`), each touch of a poisoned page asks the provider again.
  public static let sigbus = Delivery(kind: .sigbus)

  /// As `sigbus`, without a userfaultfd, for hosts that forbid it: memory that is not there has no access, and the thread
  /// that touches it runs the provider in a handler of SIGSEGV. Each page is filled through a second mapping and opened when
  /// it is complete. The slowest delivery: opening pages takes the lock of the whole address space, and scattered pages cost
  /// mappings (`vm.max_map_count`). Errors and system calls are as with `sigbus`, but a page that could not be produced
  /// raises SIGSEGV. A provider that does not permit the faulting thread is asked on a thread of the runtime's own, while the
  /// faulting one waits.
  public static let sigsegv = Delivery(kind: .sigsegv)

  /// All ways that this version of the library knows.
  public static let allCases: [Delivery] = Kind.allCases.map { Delivery(kind: $0) }

  /// The way with this name; nil where this version of the library knows none.
  public init?(rawValue: String) {
    guard let kind = Kind(rawValue: rawValue) else { return nil }
    self.init(kind: kind)
  }

  /// Its name: `auto`, `event-loop`, `sigbus` or `sigsegv`.
  public var rawValue: String { kind.rawValue }

  // Written out, because for a type with a raw value the standard library would compare and hash that.

  /// Whether both are the same way.
  public static func == (left: Delivery, right: Delivery) -> Bool { left.kind == right.kind }

  /// Hashes the way.
  public func hash(into hasher: inout Hasher) { hasher.combine(kind) }
}

extension Delivery: CustomStringConvertible {
  /// The name, as ``rawValue`` has it.
  public var description: String { rawValue }
}
