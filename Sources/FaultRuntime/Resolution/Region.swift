internal import CUFFD
internal import Synchronization

/// A region: its memory and the facts about its provider. It holds what is needed to serve a fault.
@safe
final class Region: TableMember {
  // Every fault that is answered on its own thread changes the reference count, which lies in front of this padding.
  // The fields that such a thread reads afterwards have to lie in another cache line.
  private let padding = InlineArray<14, Int>(repeating: 0)
  // The fields that a faulting thread reads come first, so that they lie in few cache lines.
  /// The mapped range: whole pages.
  let range: AddressRange
  let pageSize: PageSize
  /// The unit that a fault fills, in bytes. It consists of whole pages.
  let requestUnit: Int
  /// The size that the request of a fault can grow to while accesses run on, in bytes. It is at most
  /// `largestRequest`.
  let widestRequest: Int
  /// The exact length, in bytes.
  let byteCount: Int
  private let provider: Unmanaged<ProviderReference>
  let server: any FaultServer
  private let closing = Atomic<Bool>(false)
  let advice: RegionOptions.Advice
  /// The most that one request asks for, in bytes: a multiple of `requestUnit`.
  let largestRequest: Int
  let streams = AccessStreams()
  let memory: any RegionMemory
  let name: String
  /// Whether the provider is asked on a thread of the pool.
  let mayBlock: Bool
  /// Whether several threads may ask the provider at the same time.
  let mayBeAskedConcurrently: Bool
  /// Whether the provider may be asked on the thread that faulted, in its signal handler.
  let mayRunInFaultingThread: Bool
  /// Whether a message explains the end of a program that dies of a failed page of this region.
  let explainsFailures: Bool
  /// The calls that the pool makes for this region.
  let calls = ProviderCalls()
  let failures = FailureLog()
  let pins = RegionPins()
  /// The provider's name, for messages.
  let providerName: String
  let retry: RetryPolicy
  /// How long a request may take, in nanoseconds. The value 0 means that there is no limit.
  let timeout: UInt64

  /// The least that must be left of an alternate signal stack before a fault of the region is answered on it, in bytes.
  let stackNeed: UInt64

  /// The upper limit of `largestRequest`, in bytes. A request is assembled in staging memory of the runtime, so a
  /// larger value must be a mistake.
  static let largestRequestLimit = 1 << 30

  /// - Parameters:
  ///   - widestFault: the most that one fault may bring, in bytes, because of where it is served.
  ///   - isAskedAnywhere: whether any thread that faults may have to ask the provider, so that the region has to see to
  ///     it that only one does.
  ///   - makeMemory: maps the memory, whose length is given in bytes, in whole pages.
  init<Provider: PageProvider>(
    provider: Provider, byteCount: Int, options: RegionOptions, name: String, pageSize: PageSize,
    server: any FaultServer, widestFault: Int = .max, explainsFailures: Bool = true, isAskedAnywhere: Bool = false,
    makeMemory: (Int) throws(HostCallError) -> any RegionMemory
  ) throws(FaultRuntimeError) {
    guard byteCount > 0 else { throw .emptyRegion(name: name, byteCount: byteCount) }
    guard let mapped = pageSize.roundUp(byteCount) else { throw .cannotMap(name, byteCount, .noMemory, .addresses) }
    let size = provider.requestSize
    guard let unit = pageSize.roundUp(size.preferred), let largest = pageSize.roundUp(size.largest) else {
      throw .requestTooLarge(name: name, byteCount: size.largest)
    }
    guard largest <= Self.largestRequestLimit else { throw .requestTooLarge(name: name, byteCount: largest) }
    do throws(HostCallError) {
      memory = try makeMemory(mapped)
    } catch {
      throw .cannotMap(name, byteCount, error.errno, error.shortage)
    }
    range = memory.range
    // No kernel that has a userfaultfd refuses this.
    if !options.isInCoreDumps { _ = cuffd_leave_out_of_core_dumps(UInt64(range.start), range.byteCount) }
    advice = options.advice
    retry = options.retry
    timeout = options.timeout.map { max(1, $0.clampedNanoseconds) } ?? 0
    // The handler must not be the thread that waits between attempts, or that may have to be given up.
    mayBlock =
      !provider.permissions.contains(.handlerThread) || options.timeout != nil || options.retry.attempts > 1
    providerName = ProviderName.of(provider)
    self.name = name
    self.byteCount = byteCount
    self.pageSize = pageSize
    self.server = server
    requestUnit = unit
    largestRequest = largest / unit * unit
    widestRequest = max(unit, min(largest, widestFault) / unit * unit)
    mayBeAskedConcurrently = provider.permissions.contains(.concurrentRequests)
    mayRunInFaultingThread = provider.mayRunInFaultingThread
    let known = (Provider.self as? any ShallowPageProvider.Type)?.stackNeed
    stackNeed = mayRunInFaultingThread ? known ?? StackNeed.ofCode : StackNeed.ofSimpleAnswer
    self.explainsFailures = explainsFailures
    let isAskedSerially =
      isAskedAnywhere && !mayRunInFaultingThread && !(mayBlock && mayBeAskedConcurrently)
    unsafe self.provider = .passRetained(
      isAskedSerially
        ? SoleProviderReference(provider, SoleAsker(region: name)) : TypedProviderReference(provider))
  }

  deinit { unsafe provider.release() }

  /// Asks the provider. No reference is counted.
  @inline(__always)
  func provide(_ request: PageRequest, _ buffer: inout PageBuffer) throws -> PageContents {
    try unsafe provider._withUnsafeGuaranteedRef { try $0.page(request, into: &buffer) }
  }

  var group: ObjectIdentifier { server.group }

  /// Whether the calling thread is asking the provider of this region.
  var isAskedByCaller: Bool { cuffd_asking_includes(UInt64(range.start)) }

  private let ownerProcess = cuffd_address_space()

  /// Whether this process made the region. In a forked child the descriptor still acts on the parent's memory, and
  /// the mapping is not there.
  var isInOwnerProcess: Bool { cuffd_address_space() == ownerProcess }

  var isWritable: Bool { memory.isWritable }

  // MARK: Closing

  var isClosing: Bool { closing.load(ordering: .acquiring) }

  /// Begins the closing. Returns true for the first caller only.
  func beginClosing() -> Bool { !closing.exchange(true, ordering: .acquiringAndReleasing) }

  /// Whether closing could not remove the memory.
  var isLeftBehind: Bool { memory.isLeftBehind }

  /// Ends the service of a region whose closing has begun, so that no thread can read a page that no provider gave.
  ///
  /// - Parameter remove: takes the region out of its table. It is not called if the memory still has to be served.
  func withdraw(removingFromTable remove: () -> Void) {
    guard memory.revokeAccess() else { return }
    remove()
    memory.withdraw()
  }

  // MARK: Pages and offsets

  @inline(__always)
  func offset(of address: UInt) -> Int { Int(bitPattern: address &- range.start) }

  /// The address of a byte that is in the region.
  @inline(__always)
  func address(of offset: Int) -> UInt { range.start &+ UInt(bitPattern: offset) }

  /// Returns the original offset of a page that may have been moved.
  func originalOffset(of page: UInt) -> Int {
    offset(of: memory.parts.withLock { $0.origin(of: page) } ?? page)
  }

  // MARK: Failures

  /// Records a failure, and then calls the hook.
  func report(_ cause: any Error, atPage page: UInt, to hook: (@Sendable (PageFailure) -> Void)?) {
    let failure = failure(cause, atPage: page)
    failures.record(failure)
    hook?(failure)
  }

  /// Returns the offset of the first page of `pages` that the program has unmapped, or has moved to another address.
  /// Returns nil if there is none.
  func firstLostPage(of pages: Range<Int>) -> Int? {
    let addresses = AddressRange(start: address(of: pages.lowerBound), byteCount: pages.count)
    return memory.parts.withLock { $0.firstLost(of: addresses) }.map { offset(of: $0) }
  }

  func failure(_ cause: any Error, atPage page: UInt) -> PageFailure {
    PageFailure(
      region: name, offset: originalOffset(of: page), byteCount: pageSize.bytes, provider: providerName, cause: cause)
  }

  /// Whether a fault that was met while the region closes is outdated, because another thread has filled the page
  /// since the fault was read.
  func hasBeenServed(_ page: UInt) -> Bool { isClosing && memory.isThere(page) }
}
