/// What the runtime does next after the kernel has returned from a resolving request. All deliveries use the same
/// function for this decision, which depends on nothing but its arguments.
enum ResolutionStep: Hashable, Sendable {
  /// The whole range is in place, and the threads that waited for it run.
  case done

  /// The first `completed` bytes are in place. The runtime continues directly behind them.
  case goOn(completed: Int)

  /// The kernel did nothing, because an event is unread or its effects have not ended. The runtime has to read from
  /// the descriptor and try again after a while.
  case later

  /// The first page is already present, and the kernel woke no thread. The runtime wakes the threads that wait for
  /// the page and continues behind it.
  case present

  /// The page cannot be moved now, because it is pinned or shared after a fork. The bytes have to be copied instead.
  case copyInstead

  /// The range was unmapped or unregistered and no longer belongs to the region. The runtime wakes the waiting
  /// threads, which then meet what is mapped there now.
  case gone

  /// The address space no longer exists, and so there are no threads that wait.
  case targetGone

  /// The range cannot be resolved. The accesses of the waiting threads must fail.
  case fail(KernelErrno)

  /// The range cannot be resolved because the process has as many mappings as it may.
  case failForMappings

  /// The request itself was wrong, which is a defect of the runtime.
  case misuse(KernelErrno)

  /// How often the kernel may report a page as present while threads keep faulting on it, before the runtime gives
  /// up. Harmless races stay below ten reports. The endless loop of an exhausted hugetlb pool makes thousands in a
  /// second.
  static let presentLimit = 128

  /// Decides what follows from the result of one request.
  ///
  /// - Parameters:
  ///   - request: the request that was made.
  ///   - completed: the number of bytes that the kernel reports as resolved.
  ///   - errno: the failure, or nil for success.
  @inline(__always)
  static func after(_ request: ResolveRequest, completed: Int, errno: KernelErrno?) -> ResolutionStep {
    guard let errno else { return .done }
    return afterFailure(request, completed: completed, errno: errno)
  }

  private static func afterFailure(
    _ request: ResolveRequest, completed: Int, errno: KernelErrno
  ) -> ResolutionStep {
    // The next request starts where this one stopped, and its result shows the cause.
    if completed > 0 { return .goOn(completed: completed) }
    switch errno {
    case .resourceTemporarilyUnavailable: return .later
    case .fileExists: return .present
    case .noSuchFileOrDirectory: return .gone
    case .noSuchProcess: return .targetGone
    case .resourceBusy where request == .move: return .copyInstead
    case .invalidArgument where request == .move: return .copyInstead
    // The source is memory that a provider lent. For an address where no program can have memory, the kernel reports
    // EINVAL instead of EFAULT.
    case .invalidArgument where request == .copy: return .fail(errno)
    case .invalidArgument, .badFileDescriptor: return .misuse(errno)
    default: return .fail(errno)
    }
  }
}
