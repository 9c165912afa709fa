/// An error that the runtime throws when it cannot do what a program asks. It says what failed and where, the
/// kernel's reason by name, and what to do about it.
///
/// ```swift
/// do throws(FaultRuntimeError) {
///   let header = try region.read(0..<64)
///   parse(header)
/// } catch {
///   print(error)   // one line: message, reason, advice
///   if error.code == .pageFailed, let failure = error.failure {
///     print("page at \(failure.offset): \(failure.cause)")
///   }
/// }
/// ```
public struct FaultRuntimeError: Error, Sendable {
  /// The kind of a failure. Later versions may add more kinds.
  public struct Code: Hashable, Sendable {
    fileprivate enum Kind: String {
      case userfaultfdUnavailable, cannotStart, invalidConfiguration, emptyRegion, requestTooLarge, cannotMap
      case cannotRegister, forkedChild, featureMissing, providerForbidsDelivery
      case cannotKeepCPUsAwake
      case rangeOutOfBounds, regionClosed, prefetchFromProvider, pageFailed
    }
    fileprivate let kind: Kind

    /// The host allows none of the ways to a userfaultfd that the configuration permits, or the process has no file
    /// descriptor left for one.
    public static let userfaultfdUnavailable = Code(kind: .userfaultfdUnavailable)
    /// The runtime could not create a descriptor, a thread or memory of its own, or could not install a signal
    /// handler.
    public static let cannotStart = Code(kind: .cannotStart)
    /// The runtime cannot keep CPUs awake: the process may not write `/dev/cpu_dma_latency`, or the host has no such
    /// device.
    public static let cannotKeepCPUsAwake = Code(kind: .cannotKeepCPUsAwake)
    /// A value of the configuration is out of its range, or two values contradict each other.
    public static let invalidConfiguration = Code(kind: .invalidConfiguration)
    /// The region would have no bytes. A region needs at least one.
    public static let emptyRegion = Code(kind: .emptyRegion)
    /// The provider wants requests of more than 1 GiB (``PageProvider/requestSize``).
    public static let requestTooLarge = Code(kind: .requestTooLarge)
    /// The kernel refused address space for the region, or memory for a buffer.
    public static let cannotMap = Code(kind: .cannotMap)
    /// The kernel refused to report the region's faults.
    public static let cannotRegister = Code(kind: .cannotRegister)
    /// The process is a forked child of the process that made the runtime.
    public static let forkedChild = Code(kind: .forkedChild)
    /// The kernel lacks a feature that the configuration needs.
    public static let featureMissing = Code(kind: .featureMissing)
    /// The region cannot have the delivery that it would get: the provider does not permit that delivery, or the
    /// region has a timeout, which that delivery cannot keep.
    public static let providerForbidsDelivery = Code(kind: .providerForbidsDelivery)
    /// A range does not lie within its region.
    public static let rangeOutOfBounds = Code(kind: .rangeOutOfBounds)
    /// The region was closed, before the call or during it.
    public static let regionClosed = Code(kind: .regionClosed)
    /// A provider or a hook asked for pages on a thread of the runtime that would have to produce them itself, or a
    /// provider asked for pages of its own region.
    public static let prefetchFromProvider = Code(kind: .prefetchFromProvider)
    /// A page could not be produced. ``FaultRuntimeError/failure`` says which one and why.
    public static let pageFailed = Code(kind: .pageFailed)
  }

  /// The kind of the failure.
  public let code: Code
  /// One line that says what failed and where.
  public let message: String
  /// The kernel's reason, or nil if the kernel gave none.
  public let errno: KernelErrno?
  /// One line that says what to do, or nil if there is nothing to do.
  public let advice: String?

  /// The page that failed, for the code `pageFailed`. For other codes it is nil.
  public let failure: PageFailure?

  /// The cause and what helps in a few words, where the runtime may go on without what has failed, and says so.
  let brief: (cause: String, remedy: String?)?

  init(
    _ code: Code, _ message: String, errno: KernelErrno? = nil, advice: String? = nil, failure: PageFailure? = nil,
    brief: (cause: String, remedy: String?)? = nil
  ) {
    self.failure = failure
    self.brief = brief
    self.code = code
    self.message = message
    self.errno = errno
    self.advice = advice
  }
}

extension FaultRuntimeError.Code: CustomStringConvertible {
  /// The name of the constant, such as `regionClosed`.
  public var description: String { kind.rawValue }
}
