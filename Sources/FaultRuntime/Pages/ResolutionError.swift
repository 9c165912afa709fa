/// Why the runtime itself refused an answer, or could not put it in place.
public struct ResolutionError: Error, Hashable, Sendable {
  /// What kind of failure it was. More may be added.
  public struct Code: Hashable, Sendable {
    fileprivate enum Name: String {
      case answerTooShort, answerTooLong, lentLazyMemory, refused, timedOut, regionClosed, deadlineExceeded, memoryMoved
      case deadlock
    }
    fileprivate let name: Name

    /// The provider produced fewer bytes than the page has: ``ResolutionError/producedByteCount`` of
    /// ``ResolutionError/wantedByteCount``.
    public static let answerTooShort = Code(name: .answerTooShort)

    /// The provider lent more bytes than were asked for: ``ResolutionError/producedByteCount`` instead of
    /// ``ResolutionError/wantedByteCount``.
    public static let answerTooLong = Code(name: .answerTooLong)

    /// The provider lent lazy memory of the same runtime: copying from it would wait for the thread that copies.
    public static let lentLazyMemory = Code(name: .lentLazyMemory)

    /// The kernel refused, and ``ResolutionError/errno`` says why: `ENOMEM` where memory, or its cgroup's limit, is used up;
    /// `EFAULT` where lent memory is not readable; `EEXIST` where it says again and again that a page is there, and threads
    /// say that it is not (an exhausted hugetlb pool does that).
    public static let refused = Code(name: .refused)

    /// The kernel wanted the resolution tried again until the deadline had passed
    /// (``FaultRuntimeConfiguration/resolveTimeout``).
    public static let timedOut = Code(name: .timedOut)

    /// The region was closed while the fault was waiting.
    public static let regionClosed = Code(name: .regionClosed)

    /// The provider did not answer within the region's deadline (``RegionOptions/timeout``), which
    /// ``ResolutionError/deadline`` repeats.
    public static let deadlineExceeded = Code(name: .deadlineExceeded)

    /// The program has moved the memory with `mremap(2)`: a region is served where it was mapped only.
    public static let memoryMoved = Code(name: .memoryMoved)

    /// Waiting for the page would be for ever: the thread that would have to produce it waits for it itself.
    /// ``ResolutionError/deadlock`` names both ends.
    public static let deadlock = Code(name: .deadlock)
  }

  enum Reason: Hashable {
    case answerTooShort(produced: Int, wanted: Int)
    case answerTooLong(produced: Int, wanted: Int)
    case lentLazyMemory
    case refused(KernelErrno)
    case timedOut
    case regionClosed
    case deadlineExceeded(Duration)
    case memoryMoved
    case deadlock(SelfDeadlock)
  }

  /// Switched over inside the module, where every failure has to be thought of.
  let reason: Reason

  private init(_ reason: Reason) { self.reason = reason }
}

extension ResolutionError {
  /// An error with the code `answerTooShort`; both numbers are bytes.
  public static func answerTooShort(produced: Int, wanted: Int) -> ResolutionError {
    ResolutionError(.answerTooShort(produced: produced, wanted: wanted))
  }

  /// An error with the code `answerTooLong`; both numbers are bytes.
  public static func answerTooLong(produced: Int, wanted: Int) -> ResolutionError {
    ResolutionError(.answerTooLong(produced: produced, wanted: wanted))
  }

  /// An error with the code `lentLazyMemory`.
  public static var lentLazyMemory: ResolutionError { ResolutionError(.lentLazyMemory) }

  /// An error with the code `refused`.
  public static func refused(_ errno: KernelErrno) -> ResolutionError { ResolutionError(.refused(errno)) }

  /// An error with the code `timedOut`.
  public static var timedOut: ResolutionError { ResolutionError(.timedOut) }

  /// An error with the code `regionClosed`.
  public static var regionClosed: ResolutionError { ResolutionError(.regionClosed) }

  /// An error with the code `deadlineExceeded`.
  public static func deadlineExceeded(_ deadline: Duration) -> ResolutionError {
    ResolutionError(.deadlineExceeded(deadline))
  }

  /// An error with the code `memoryMoved`.
  public static var memoryMoved: ResolutionError { ResolutionError(.memoryMoved) }

  /// An error with the code `deadlock`.
  public static func deadlock(_ ends: SelfDeadlock) -> ResolutionError { ResolutionError(.deadlock(ends)) }
}

extension ResolutionError {
  /// What kind of failure it was.
  public var code: Code {
    switch reason {
    case .answerTooShort: .answerTooShort
    case .answerTooLong: .answerTooLong
    case .lentLazyMemory: .lentLazyMemory
    case .refused: .refused
    case .timedOut: .timedOut
    case .regionClosed: .regionClosed
    case .deadlineExceeded: .deadlineExceeded
    case .memoryMoved: .memoryMoved
    case .deadlock: .deadlock
    }
  }

  /// The kernel's reason, for the code `refused`; nil for the others.
  public var errno: KernelErrno? { if case .refused(let errno) = reason { errno } else { nil } }

  /// How many bytes the provider produced or lent, for the codes `answerTooShort` and `answerTooLong`; nil for the others.
  public var producedByteCount: Int? {
    switch reason {
    case .answerTooShort(let produced, _), .answerTooLong(let produced, _): produced
    default: nil
    }
  }

  /// How many bytes it should have been, for the codes `answerTooShort` and `answerTooLong`; nil for the others.
  public var wantedByteCount: Int? {
    switch reason {
    case .answerTooShort(_, let wanted), .answerTooLong(_, let wanted): wanted
    default: nil
    }
  }

  /// The deadline that the provider did not keep, for the code `deadlineExceeded`; nil for the others.
  public var deadline: Duration? { if case .deadlineExceeded(let deadline) = reason { deadline } else { nil } }

  /// Both ends of the wait, for the code `deadlock`; nil for the others.
  public var deadlock: SelfDeadlock? { if case .deadlock(let ends) = reason { ends } else { nil } }
}

extension ResolutionError.Code: CustomStringConvertible {
  /// The name of the constant, such as `answerTooShort`.
  public var description: String { name.rawValue }
}

extension ResolutionError: CustomStringConvertible {
  /// What happened, and what to do about it.
  public var description: String {
    switch reason {
    case .answerTooShort(let produced, let wanted):
      "the provider produced \(produced) of \(wanted) bytes; an answer covers whole pages"
    case .answerTooLong(let produced, let wanted):
      "the provider lent \(produced) bytes where \(wanted) were wanted"
    case .lentLazyMemory:
      "the provider lent lazy memory of the same runtime; copy from it on another thread first"
    case .refused(.noMemory):
      "the kernel has no memory for the page (ENOMEM); look at the memory cgroup's limit"
    case .refused(.badAddress):
      "the memory that the provider lent cannot be read (EFAULT); it has to stay mapped while the region is open"
    case .refused(.invalidArgument):
      "the memory that the provider lent is where no program has memory (EINVAL)"
    case .refused(let errno):
      "the kernel refused the page (\(errno))"
    case .timedOut:
      "the kernel asked for another try (EAGAIN) until the deadline"
    case .regionClosed:
      "the region was closed while the access waited"
    case .deadlineExceeded(let deadline):
      "the provider did not answer within \(deadline)"
    case .memoryMoved:
      "the program has moved the memory away (mremap); a region is served where it was mapped only"
    case .deadlock(let deadlock):
      "\(deadlock); a provider must not touch lazy memory that needs the thread it runs on"
    }
  }
}
