/// How faults are delivered to their provider: which thread asks the provider, and how that thread learns of the
/// fault.
///
/// ```swift
/// let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop))
/// ```
///
/// The article <doc:WhichDelivery> compares the deliveries. Later versions may add more of them.
public struct Delivery: RawRepresentable, Hashable, Sendable, CaseIterable {
  enum Kind: String, CaseIterable {
    case auto
    case eventLoop = "event-loop"
    case sigbus, sigsegv
  }

  let kind: Kind

  private init(kind: Kind) { self.kind = kind }

  /// The runtime chooses a delivery for each region.
  ///
  /// A region gets ``sigbus`` if its provider permits the faulting thread, system calls need not be served, and the
  /// region has no timeout. Otherwise it gets ``eventLoop``. If the host allows no userfaultfd, every region gets
  /// ``sigsegv``, unless the configuration asks for something that needs a userfaultfd; making the runtime is then an
  /// error.
  public static let auto = Delivery(kind: .auto)

  /// The kernel sends a message for each fault through a userfaultfd, and threads of the runtime read these messages
  /// in batches. The thread that faulted sleeps until its page is in place.
  ///
  /// This delivery is for every provider. It also serves system calls that touch lazy memory if the descriptor allows
  /// that (``DescriptorKind/servesKernelModeFaults``).
  public static let eventLoop = Delivery(kind: .eventLoop)

  /// The thread that faulted runs the provider itself, in a signal handler for SIGBUS (`UFFD_FEATURE_SIGBUS`). This
  /// is the delivery with the lowest latency.
  ///
  /// The provider has to permit ``ProviderPermissions/signalHandler`` and ``ProviderPermissions/concurrentRequests``.
  /// A system call that meets a page which is not resident fails with `EFAULT`. A thread that blocks SIGBUS is killed
  /// when it touches such a page. Some kernels do not tell a poisoned page from a missing one: those before Linux
  /// 6.6, and those without `CONFIG_MEMORY_FAILURE`. On these kernels each touch of a page that has failed asks the
  /// provider again.
  public static let sigbus = Delivery(kind: .sigbus)

  /// The thread that faulted runs the provider itself, in a signal handler for SIGSEGV. This delivery needs no
  /// userfaultfd and is for hosts that forbid it.
  ///
  /// Pages that are not resident cannot be accessed, so the kernel raises SIGSEGV in the thread that touches one. The
  /// handler fills the page through a second mapping and permits access when the page is complete. If the provider
  /// does not permit the faulting thread, a thread of the runtime asks the provider, and the faulting thread waits in
  /// its handler.
  ///
  /// This is the slowest delivery. Each change of access takes the lock of the whole address space, and pages that
  /// become resident here and there cost mappings (`vm.max_map_count`). System calls fail as with ``sigbus``. An
  /// access to a page that could not be produced raises SIGSEGV.
  public static let sigsegv = Delivery(kind: .sigsegv)

  /// All deliveries that this version of the library knows.
  public static let allCases: [Delivery] = Kind.allCases.map { Delivery(kind: $0) }

  /// Creates the delivery with the given name. The result is nil if this version of the library knows no such
  /// delivery.
  public init?(rawValue: String) {
    guard let kind = Kind(rawValue: rawValue) else { return nil }
    self.init(kind: kind)
  }

  /// The name of the delivery: `auto`, `event-loop`, `sigbus` or `sigsegv`.
  public var rawValue: String { kind.rawValue }

  // The standard library would compare and hash the raw value of a raw-representable type, so both functions are
  // written out.

  /// Returns whether both values are the same delivery.
  public static func == (left: Delivery, right: Delivery) -> Bool { left.kind == right.kind }

  /// Hashes the delivery.
  public func hash(into hasher: inout Hasher) { hasher.combine(kind) }
}

extension Delivery: CustomStringConvertible {
  /// The name of the delivery, the same as ``rawValue``.
  public var description: String { rawValue }
}
