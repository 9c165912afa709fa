/// Why the runtime itself refused an answer, or could not put it in place.
public enum ResolutionError: Error, Hashable, Sendable {
  /// The provider produced fewer bytes than the page has.
  case answerTooShort(produced: Int, wanted: Int)

  /// The provider lent more bytes than were asked for.
  case answerTooLong(produced: Int, wanted: Int)

  /// The provider lent lazy memory of the same runtime: copying from it would wait for the thread that copies.
  case lentLazyMemory

  /// The kernel refused: `ENOMEM` where memory, or its cgroup's limit, is used up; `EFAULT` where lent memory is not
  /// readable; `EEXIST` where it says again and again that a page is there, and threads say that it is not (an exhausted
  /// hugetlb pool does that).
  case refused(KernelErrno)

  /// The kernel wanted the resolution tried again until the deadline had passed.
  case timedOut

  /// The region was closed while the fault was waiting.
  case regionClosed

  /// The provider did not answer within the region's timeout (``RegionOptions/timeout``).
  case deadlineExceeded(Duration)

  /// The program has moved the memory with `mremap(2)`: a region is served where it was mapped only.
  case memoryMoved

  /// Waiting for the page would be for ever: the thread that would have to produce it waits for it itself.
  case deadlock(SelfDeadlock)
}

extension ResolutionError: CustomStringConvertible {
  /// What happened, and what to do about it.
  public var description: String {
    switch self {
    case .answerTooShort(let produced, let wanted):
      "the provider produced \(produced) of \(wanted) bytes; an answer covers whole pages"
    case .answerTooLong(let produced, let wanted):
      "the provider lent \(produced) bytes where \(wanted) were wanted"
    case .lentLazyMemory:
      "the provider lent lazy memory of the same runtime; copy from it on another thread first"
    case .refused(.outOfMemory):
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
