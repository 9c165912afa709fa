/// An error of the runtime itself about a page: it refused an answer, or could not put an answer in place.
///
/// Errors that a provider throws are kept as they are. Both are found in ``PageFailure/cause``.
///
/// ```swift
/// if let error = region.failure(at: 0)?.cause as? ResolutionError, error.code == .timeoutExceeded {
///   try region.retry(0..<region.byteCount)   // asks again for each page that has failed
/// }
/// ```
public struct ResolutionError: Error, Hashable, Sendable {
  /// The kind of a failure. Later versions may add more kinds.
  public struct Code: Hashable, Sendable {
    fileprivate enum Name: String {
      case answerTooShort, answerTooLong, lentLazyMemory, refused, resolveTimedOut, regionClosed, timeoutExceeded
      case memoryMoved, deadlock, nestedTooDeeply, providerStuck
    }
    fileprivate let name: Name

    /// The answer leaves out a page that is needed: the provider produced or lent
    /// ``ResolutionError/producedByteCount`` of ``ResolutionError/wantedByteCount`` bytes.
    public static let answerTooShort = Code(name: .answerTooShort)

    /// The answer has more bytes than were asked for: ``ResolutionError/producedByteCount`` instead of
    /// ``ResolutionError/wantedByteCount``.
    public static let answerTooLong = Code(name: .answerTooLong)

    /// The provider lent lazy memory of the same runtime. A copy from that memory could wait for the thread that
    /// makes the copy.
    public static let lentLazyMemory = Code(name: .lentLazyMemory)

    /// The kernel refused the page. ``ResolutionError/errno`` says why:
    ///
    /// - `ENOMEM`: memory is used up, the limit of a memory cgroup was reached, or the process has no mapping left. The
    ///   description says which one it is, as far as that can be told.
    /// - `EFAULT`: the memory that the provider lent cannot be read.
    /// - `EINVAL`: the memory that the provider lent is at an address where no program can have memory, or the fault
    ///   is of a kind that the runtime does not serve.
    /// - `ENOENT`: the program has unmapped or moved the memory of the region.
    /// - `EEXIST`: the kernel keeps reporting that the page is present, while threads keep faulting on it. An
    ///   exhausted hugetlb pool does that.
    public static let refused = Code(name: .refused)

    /// The kernel asked for another try until ``FaultRuntimeConfiguration/resolveTimeout`` had passed.
    public static let resolveTimedOut = Code(name: .resolveTimedOut)

    /// The region was closed while the access waited for its page.
    public static let regionClosed = Code(name: .regionClosed)

    /// The provider did not answer within the timeout of the region (``RegionOptions/timeout``).
    /// ``ResolutionError/timeout`` has the same value.
    public static let timeoutExceeded = Code(name: .timeoutExceeded)

    /// The program has moved the memory with `mremap(2)`. A region is served only where it was mapped.
    public static let memoryMoved = Code(name: .memoryMoved)

    /// The wait for the page would never end, because the thread that has to produce the page waits for it, directly
    /// or through other threads. ``ResolutionError/deadlock`` names both ends of the wait.
    public static let deadlock = Code(name: .deadlock)

    /// Providers that run on the faulting thread have touched lazy memory of one another, and the thread would answer
    /// more faults at once than the runtime permits. ``ResolutionError/nestedFaultCount`` says how many it answers.
    public static let nestedTooDeeply = Code(name: .nestedTooDeeply)

    /// Too many calls of the provider have been given up after the timeout of the region, and have not returned. The
    /// provider was not called for this page. ``ResolutionError/stuckCallCount`` says how many calls these are. The
    /// provider is called again when some of them have returned.
    public static let providerStuck = Code(name: .providerStuck)
  }

  enum Reason: Hashable {
    case answerTooShort(produced: Int, wanted: Int)
    case answerTooLong(produced: Int, wanted: Int)
    case lentLazyMemory
    case refused(KernelErrno)
    case resolveTimedOut
    case regionClosed
    case timeoutExceeded(Duration)
    case memoryMoved
    case deadlock(SelfDeadlock)
    case nestedTooDeeply(Int)
    case providerStuck(Int, lacksThreads: Bool)
  }

  /// The module switches over this value, so the compiler finds every place that a new failure concerns.
  let reason: Reason

  /// What the kernel had too little of, where the runtime knows it.
  private let lack: Lack?

  private enum Lack: Hashable {
    case mappings
    case buffer(MemoryShortage)
  }

  private init(_ reason: Reason, lack: Lack? = nil) {
    self.reason = reason
    self.lack = lack
  }

  // What was lacking is only for the text. Programs compare errors with those that they make themselves.

  /// Whether both are the same failure.
  public static func == (left: ResolutionError, right: ResolutionError) -> Bool { left.reason == right.reason }

  /// Hashes the failure.
  public func hash(into hasher: inout Hasher) { hasher.combine(reason) }
}

extension ResolutionError {
  /// Creates an error with the code `answerTooShort`.
  ///
  /// - Parameters:
  ///   - produced: the number of bytes that the provider produced or lent.
  ///   - wanted: the number of bytes that it was asked for.
  public static func answerTooShort(produced: Int, wanted: Int) -> ResolutionError {
    ResolutionError(.answerTooShort(produced: produced, wanted: wanted))
  }

  /// Creates an error with the code `answerTooLong`.
  ///
  /// - Parameters:
  ///   - produced: the number of bytes that the provider produced or lent.
  ///   - wanted: the number of bytes that it was asked for.
  public static func answerTooLong(produced: Int, wanted: Int) -> ResolutionError {
    ResolutionError(.answerTooLong(produced: produced, wanted: wanted))
  }

  /// An error with the code `lentLazyMemory`.
  public static var lentLazyMemory: ResolutionError { ResolutionError(.lentLazyMemory) }

  /// Creates an error with the code `refused` and the kernel's reason.
  public static func refused(_ errno: KernelErrno) -> ResolutionError { ResolutionError(.refused(errno)) }

  /// An error with the code `refused`: the process has as many mappings as it may, so the page cannot be opened.
  static var outOfMappings: ResolutionError { ResolutionError(.refused(.noMemory), lack: .mappings) }

  /// Creates an error with the code `refused`: there is no memory in which an answer could be assembled.
  static func noBuffer(_ shortage: MemoryShortage) -> ResolutionError {
    ResolutionError(.refused(.noMemory), lack: .buffer(shortage))
  }

  /// An error with the code `resolveTimedOut`.
  public static var resolveTimedOut: ResolutionError { ResolutionError(.resolveTimedOut) }

  /// An error with the code `regionClosed`.
  public static var regionClosed: ResolutionError { ResolutionError(.regionClosed) }

  /// Creates an error with the code `timeoutExceeded` and the timeout that has passed.
  public static func timeoutExceeded(_ timeout: Duration) -> ResolutionError {
    ResolutionError(.timeoutExceeded(timeout))
  }

  /// An error with the code `memoryMoved`.
  public static var memoryMoved: ResolutionError { ResolutionError(.memoryMoved) }

  /// Creates an error with the code `deadlock` and the two ends of the wait.
  public static func deadlock(_ ends: SelfDeadlock) -> ResolutionError { ResolutionError(.deadlock(ends)) }

  /// Creates an error with the code `nestedTooDeeply` and the number of faults that the thread is answering.
  public static func nestedTooDeeply(_ faultCount: Int) -> ResolutionError {
    ResolutionError(.nestedTooDeeply(faultCount))
  }

  /// Creates an error with the code `providerStuck` and the number of calls that have not returned.
  public static func providerStuck(callCount: Int) -> ResolutionError {
    ResolutionError(.providerStuck(callCount, lacksThreads: false))
  }

  /// Creates the same error for a process that can start no further thread.
  static func providerStuckWithoutThreads(callCount: Int) -> ResolutionError {
    ResolutionError(.providerStuck(callCount, lacksThreads: true))
  }
}

extension ResolutionError {
  /// The kind of the failure.
  public var code: Code {
    switch reason {
    case .answerTooShort: .answerTooShort
    case .answerTooLong: .answerTooLong
    case .lentLazyMemory: .lentLazyMemory
    case .refused: .refused
    case .resolveTimedOut: .resolveTimedOut
    case .regionClosed: .regionClosed
    case .timeoutExceeded: .timeoutExceeded
    case .memoryMoved: .memoryMoved
    case .deadlock: .deadlock
    case .nestedTooDeeply: .nestedTooDeeply
    case .providerStuck: .providerStuck
    }
  }

  /// The kernel's reason, for the code `refused`. For the code `providerStuck` it is EAGAIN where the process can start
  /// no further thread, so that fewer calls than usual are too many. Otherwise it is nil.
  public var errno: KernelErrno? {
    switch reason {
    case .refused(let errno): errno
    case .providerStuck(_, lacksThreads: true): .resourceTemporarilyUnavailable
    default: nil
    }
  }

  /// The number of bytes that the provider produced or lent, for the codes `answerTooShort` and `answerTooLong`. For
  /// other codes it is nil.
  public var producedByteCount: Int? {
    switch reason {
    case .answerTooShort(let produced, _), .answerTooLong(let produced, _): produced
    default: nil
    }
  }

  /// The number of bytes that the provider was asked for, for the codes `answerTooShort` and `answerTooLong`. For
  /// other codes it is nil.
  public var wantedByteCount: Int? {
    switch reason {
    case .answerTooShort(_, let wanted), .answerTooLong(_, let wanted): wanted
    default: nil
    }
  }

  /// The timeout that has passed, for the code `timeoutExceeded`. For other codes it is nil.
  public var timeout: Duration? { if case .timeoutExceeded(let timeout) = reason { timeout } else { nil } }

  /// The two ends of the wait, for the code `deadlock`. For other codes it is nil.
  public var deadlock: SelfDeadlock? { if case .deadlock(let ends) = reason { ends } else { nil } }

  /// The number of faults that the thread is answering, for the code `nestedTooDeeply`. For other codes it is nil.
  public var nestedFaultCount: Int? { if case .nestedTooDeeply(let count) = reason { count } else { nil } }

  /// The number of calls that have not returned, for the code `providerStuck`. For other codes it is nil.
  public var stuckCallCount: Int? { if case .providerStuck(let count, _) = reason { count } else { nil } }
}

extension ResolutionError.Code: CustomStringConvertible {
  /// The name of the constant, such as `answerTooShort`.
  public var description: String { name.rawValue }
}

extension ResolutionError: CustomStringConvertible {
  /// One line that says what happened and, where possible, what to do about it.
  public var description: String {
    switch reason {
    case .answerTooShort(let produced, let wanted):
      "the provider produced \(produced) of \(wanted) bytes; an answer covers whole pages"
    case .answerTooLong(let produced, let wanted):
      "the provider lent \(produced) bytes where \(wanted) were wanted"
    case .lentLazyMemory:
      "the provider lent lazy memory of the same runtime; copy from it on another thread first"
    case .refused(.noMemory):
      lackText
    case .refused(.badAddress):
      "the memory that the provider lent cannot be read (EFAULT); it has to stay mapped while the region is open"
    case .refused(.invalidArgument):
      """
      the kernel refused the page (EINVAL): the memory that the provider lent is where no program has memory, or the \
      fault is of a kind that the runtime does not serve
      """
    case .refused(let errno):
      "the kernel refused the page (\(errno))"
    case .resolveTimedOut:
      "the kernel asked for another try (EAGAIN) until the time was up"
    case .regionClosed:
      "the region was closed while the access waited"
    case .timeoutExceeded(let timeout):
      "the provider did not answer within \(timeout)"
    case .memoryMoved:
      "the program has moved the memory away (mremap); a region is served where it was mapped only"
    case .deadlock(let deadlock):
      "\(deadlock); a provider must not touch lazy memory that needs the thread it runs on"
    case .nestedTooDeeply(let count):
      """
      the thread is answering \(count) faults already, each from the provider of another one; copy what the provider \
      needs before, or permit no signal handler
      """
    case .providerStuck(let count, let lacksThreads):
      """
      \(count) \(count == 1 ? "call" : "calls") of this provider \(count == 1 ? "has" : "have") not returned since the \
      region's timeout, so it is not called again before one does\(lacksThreads ? Self.threadAdvice : "")
      """
    }
  }
}

extension ResolutionError {
  /// What a process can do that can start no further thread.
  private static var threadAdvice: String {
    """
    ; one such call is too many, because the process can start no further thread (EAGAIN); raise RLIMIT_NPROC \
    (ulimit -u) or pids.max of the cgroup, or give the process more memory
    """
  }

  /// The text about a lack of memory.
  private var lackText: String {
    switch lack {
    case .mappings:
      """
      the process has as many mappings as it may (ENOMEM), so the page cannot be opened; map fewer, larger regions, \
      use larger requests, or raise vm.max_map_count
      """
    case .buffer(let shortage):
      "there is no memory to assemble the page in (ENOMEM): \(shortage)"
    case nil:
      "the kernel has no memory for the page (ENOMEM); look at the memory cgroup's limit, and at the machine's memory"
    }
  }
}
