/// Why something that a program asked of the runtime could not be done: what failed, where, the kernel's reason by name,
/// and what to do about it.
public struct FaultRuntimeError: Error, Sendable {
  /// What kind of failure it was. More may be added.
  public struct Code: Hashable, Sendable {
    fileprivate enum Kind {
      case userfaultfdUnavailable, cannotStart, invalidConfiguration, emptyRegion, requestTooLarge, cannotMap
      case cannotRegister, forkedChild, featureMissing, providerForbidsDelivery
      case cannotKeepCPUsAwake
      case rangeOutOfBounds, regionClosed, prefetchFromProvider, pageFailed
    }
    fileprivate let kind: Kind

    /// The host allows none of the ways to a userfaultfd that may be tried.
    public static let userfaultfdUnavailable = Code(kind: .userfaultfdUnavailable)
    /// A descriptor or a thread of the runtime's own could not be made.
    public static let cannotStart = Code(kind: .cannotStart)
    /// CPUs cannot be kept awake: the process may not write `/dev/cpu_dma_latency`, or there is none.
    public static let cannotKeepCPUsAwake = Code(kind: .cannotKeepCPUsAwake)
    /// A value of the configuration is out of its range.
    public static let invalidConfiguration = Code(kind: .invalidConfiguration)
    /// A region needs at least one byte.
    public static let emptyRegion = Code(kind: .emptyRegion)
    /// A provider wants larger requests than 1 GiB.
    public static let requestTooLarge = Code(kind: .requestTooLarge)
    /// The address space of the region could not be had.
    public static let cannotMap = Code(kind: .cannotMap)
    /// The kernel refused to report the region's faults.
    public static let cannotRegister = Code(kind: .cannotRegister)
    /// The process is a forked child of the one that made the runtime.
    public static let forkedChild = Code(kind: .forkedChild)
    /// The kernel lacks a feature that the configuration needs.
    public static let featureMissing = Code(kind: .featureMissing)
    /// The provider, or the region's timeout, does not permit the delivery that the configuration asks for.
    public static let providerForbidsDelivery = Code(kind: .providerForbidsDelivery)
    /// A range is not within its region.
    public static let rangeOutOfBounds = Code(kind: .rangeOutOfBounds)
    /// The region was closed.
    public static let regionClosed = Code(kind: .regionClosed)
    /// A provider asked its own handler thread to prefetch.
    public static let prefetchFromProvider = Code(kind: .prefetchFromProvider)
    /// A page could not be produced; ``FaultRuntimeError/failure`` says which and why.
    public static let pageFailed = Code(kind: .pageFailed)
  }

  /// What kind of failure it was.
  public let code: Code
  /// What failed, and where, in one line.
  public let message: String
  /// The kernel's reason, where there is one.
  public let errno: KernelErrno?
  /// What to do, in one line, where there is something to do.
  public let advice: String?

  /// The page that failed, for the code `pageFailed`.
  public let failure: PageFailure?

  init(
    _ code: Code, _ message: String, errno: KernelErrno? = nil, advice: String? = nil, failure: PageFailure? = nil
  ) {
    self.failure = failure
    self.code = code
    self.message = message
    self.errno = errno
    self.advice = advice
  }
}
