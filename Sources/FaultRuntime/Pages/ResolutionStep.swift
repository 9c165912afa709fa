/// What to do after a resolving request came back: one pure function, used by every path that resolves.
enum ResolutionStep: Hashable, Sendable {
  /// All of it is in place, and the threads that waited for it run.
  case done

  /// The first `completed` bytes are in place; go on right behind them.
  case goOn(completed: Int)

  /// Nothing was done, because an event is unread or its effects are under way: read the descriptor on, and try again
  /// after a while.
  case later

  /// The first page is there already. Nobody was woken: wake those who wait for it, and go on behind it.
  case present

  /// The first page is there, says the kernel, and threads keep faulting on it. Trying again would be for ever.
  case endlesslyPresent

  /// The page cannot be moved now (pinned, or shared after a fork): copy its bytes instead.
  case copyInstead

  /// The range is not ours any more: unmapped, or unregistered. Wake whoever waits, so that it meets what is there now.
  case gone

  /// The address space is gone, and everybody who waited with it.
  case targetGone

  /// It cannot be resolved: the threads that wait must fail.
  case fail(KernelErrno)

  /// A request that the runtime should not have made.
  case misuse(KernelErrno)

  /// How often a page may be reported present and then faulted on again before that is called endless. Benign races stay
  /// in single digits; the livelock of an exhausted hugetlb pool makes thousands in a second.
  static let presentLimit = 128

  /// Judges the result of one request.
  ///
  /// - Parameters:
  ///   - request: what was asked of the kernel.
  ///   - completed: bytes that the kernel reports as resolved.
  ///   - errno: the failure, nil for success.
  ///   - earlierPresent: how often the first page was reported present before.
  @inline(__always)
  static func after(_ request: ResolveRequest, completed: Int, errno: KernelErrno?, earlierPresent: Int = 0)
    -> ResolutionStep
  {
    guard let errno else { return .done }
    return afterFailure(request, completed: completed, errno: errno, earlierPresent: earlierPresent)
  }

  private static func afterFailure(
    _ request: ResolveRequest, completed: Int, errno: KernelErrno, earlierPresent: Int
  ) -> ResolutionStep {
    // The cause of a partial result shows at the next try, which starts where it stopped.
    if completed > 0 { return .goOn(completed: completed) }
    switch errno {
    case .resourceTemporarilyUnavailable: return .later
    case .fileExists: return earlierPresent < presentLimit ? .present : .endlesslyPresent
    case .noSuchFileOrDirectory: return .gone
    case .noSuchProcess: return .targetGone
    case .resourceBusy where request == .move: return .copyInstead
    case .invalidArgument where request == .move: return .copyInstead
    // The source is what a provider lent: where no memory of a program can be, the kernel says this instead of EFAULT.
    case .invalidArgument where request == .copy: return .fail(errno)
    case .invalidArgument, .badFileDescriptor: return .misuse(errno)
    default: return .fail(errno)
    }
  }
}
