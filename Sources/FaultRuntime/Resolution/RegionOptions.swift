/// How a region is mapped.
public struct RegionOptions: Hashable, Sendable {
  /// What user code may do with the memory. More kinds of access may be added.
  public struct Access: Hashable, Sendable {
    enum Kind: String {
      case readWrite, readOnly
    }

    let kind: Kind

    /// Reads and writes. What is written stays in this region; providers never see it.
    public static let readWrite = Access(kind: .readWrite)
    /// Reads only: a write is SIGSEGV.
    public static let readOnly = Access(kind: .readOnly)
  }

  /// How the memory is going to be accessed, as in `madvise(2)`. More kinds of advice may be added.
  public struct Advice: Hashable, Sendable, CaseIterable {
    enum Kind: String, CaseIterable {
      case normal, random, sequential
    }

    let kind: Kind

    /// Found out: requests grow while accesses run on, up to the provider's largest, and are as small as the provider
    /// permits where they do not.
    public static let normal = Advice(kind: .normal)
    /// Here and there: each fault brings the provider's preferred size and no more.
    public static let random = Advice(kind: .random)
    /// From start to end: each fault brings the provider's largest size.
    public static let sequential = Advice(kind: .sequential)

    /// All kinds of advice that this version of the library knows.
    public static let allCases: [Advice] = Kind.allCases.map { Advice(kind: $0) }
  }

  /// A name for error messages; one is made up where it is nil.
  public var name: String?

  /// What user code may do with the memory.
  public var access: Access

  /// How the memory is going to be accessed.
  public var advice: Advice

  /// How often a provider that throws is asked again before a page fails. With the event loop, anything but
  /// ``RetryPolicy/never`` has the provider asked on threads of the pool, so that nobody else waits.
  public var retry: RetryPolicy

  /// How long a page may take, from the reading of its fault to the provider's answer, attempts and their waits
  /// included; nil for ever. What is not more than zero counts as a nanosecond. After that the page fails, and what the
  /// provider answers later is dropped. For a prefetch it is how long each of its requests may take.
  ///
  /// It ends within a quarter of itself, at least a millisecond, of what it says. It needs a thread that is not the one
  /// that waits: such a region is never served by its faulting threads (`sigbus`), and its provider is asked on threads
  /// of the pool. Each call that does not return keeps its thread; another one takes its place, up to 64 of them.
  public var timeout: Duration?

  /// Options with the usual values: a made-up name, memory that can be read and written, requests that adapt, no second
  /// attempt, and no timeout.
  public init(
    name: String? = nil, access: Access = .readWrite, advice: Advice = .normal, retry: RetryPolicy = .never,
    timeout: Duration? = nil
  ) {
    self.name = name
    self.access = access
    self.advice = advice
    self.retry = retry
    self.timeout = timeout
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
