/// How a region is mapped.
///
/// ```swift
/// let options = RegionOptions(name: "index", access: .readOnly, advice: .random)
/// let region = try runtime.map(provider, options: options)
/// ```
public struct RegionOptions: Hashable, Sendable {
  /// What user code may do with the memory. More kinds of access may be added.
  public struct Access: Hashable, Sendable {
    enum Kind: String {
      case readWrite, readOnly
    }

    let kind: Kind

    /// The memory can be read and written. Written bytes stay in this region; providers never see them.
    public static let readWrite = Access(kind: .readWrite)
    /// The memory can be read. A write raises SIGSEGV.
    public static let readOnly = Access(kind: .readOnly)
  }

  /// How the memory is going to be accessed, as in `madvise(2)`. More kinds of advice may be added.
  public struct Advice: Hashable, Sendable, CaseIterable {
    enum Kind: String, CaseIterable {
      case normal, random, sequential
    }

    let kind: Kind

    /// The runtime adapts to the accesses. Requests grow up to the provider's largest size while accesses continue in
    /// order, and otherwise have the provider's preferred size.
    public static let normal = Advice(kind: .normal)
    /// Accesses come in no particular order. Each fault brings the provider's preferred size and no more.
    public static let random = Advice(kind: .random)
    /// Accesses go from the start to the end. Each fault brings the provider's largest size.
    public static let sequential = Advice(kind: .sequential)

    /// All kinds of advice that this version of the library knows.
    public static let allCases: [Advice] = Kind.allCases.map { Advice(kind: $0) }
  }

  /// A name for error messages. If it is nil, the runtime makes up a name.
  public var name: String?

  /// What user code may do with the memory.
  public var access: Access

  /// How the memory is going to be accessed.
  public var advice: Advice

  /// How often a provider that throws is asked again before a page fails. With the event loop and a policy of more
  /// than one attempt, the provider is asked on threads of the pool, so that other faults do not have to wait.
  public var retry: RetryPolicy

  /// How long a page may take, from the reading of its fault to the provider's answer, including all attempts and the
  /// waits between them; nil means that there is no limit. A value that is not positive counts as one nanosecond.
  /// When the time is up, the page fails, and a later answer of the provider is dropped. Waiting for a thread counts.
  ///
  /// For `prefetch`, `populate`, `read` and the like, and for `forEachPiece`, this is the limit for each of their
  /// requests: the first one counts from the call, and each further one from the end of the one before. So a call ends
  /// when nothing has come for so long, and a call for a large range may last longer.
  ///
  /// The runtime looks for overdue pages at intervals of a quarter of the timeout, though at least a millisecond and at
  /// most half a second, so a page may fail that much later. A timeout needs another thread than the one that waits, so
  /// only the event loop can serve such a region, and the provider is asked on threads of the pool. A call that does
  /// not return keeps its thread, and another thread takes the place of that thread. When 64 such calls of a region
  /// have not returned, its further pages fail at once (``ResolutionError/Code/providerStuck``), until one of the calls
  /// returns; one such call is enough where there are 256 in the runtime, or where no further thread can be started.
  public var timeout: Duration?

  /// Whether core dumps of the process contain the memory (`MADV_DONTDUMP`, if not).
  ///
  /// A core dump contains the pages that are resident. With ``Delivery/sigsegv`` before Linux 6.15, and in regions of
  /// more than 16 GiB, the kernel writes zeros for all other pages as well, and makes them resident while it does so,
  /// which takes as much memory as the region has bytes. Where large regions may get that delivery, leave them out.
  public var isInCoreDumps: Bool

  /// Creates options. By default the runtime makes up a name, the memory can be read and written, requests adapt to
  /// the accesses, there is neither a second attempt nor a timeout, and core dumps contain the memory.
  public init(
    name: String? = nil, access: Access = .readWrite, advice: Advice = .normal, retry: RetryPolicy = .never,
    timeout: Duration? = nil, isInCoreDumps: Bool = true
  ) {
    self.name = name
    self.access = access
    self.advice = advice
    self.retry = retry
    self.timeout = timeout
    self.isInCoreDumps = isInCoreDumps
  }
}

extension RegionOptions.Access: CustomStringConvertible {
  /// `readWrite` or `readOnly`.
  public var description: String { kind.rawValue }
}

extension RegionOptions.Advice: CustomStringConvertible {
  /// `normal`, `random` or `sequential`.
  public var description: String { kind.rawValue }
}
