internal import CUFFD
internal import Synchronization

/// What the fault path needs to know of a region. It owns the mapping: the last one that holds it unmaps, so an answer that
/// comes late can never land in an address range that has been given to somebody else.
@safe
final class Region: Sendable {
  // Every fault in a thread of its own counts a reference, in front of this; what it then reads has to lie elsewhere.
  private let padding = InlineArray<14, Int>(repeating: 0)
  // First what a faulting thread reads, in few cache lines.
  /// The mapped range, whole pages.
  let range: AddressRange
  let pageSize: PageSize
  /// What serves this region on its faulting threads, for who holds the region and does not want to count another reference.
  @unsafe let uncountedFaultingThreads: Unmanaged<SigbusServer>?
  /// The unit that a fault brings in, in bytes: whole pages.
  let requestUnit: Int
  /// What a fault grows to while accesses run on, in bytes: at most `largestRequest`.
  let widestRequest: Int
  /// The exact length, in bytes.
  let byteCount: Int
  let provide: @Sendable (PageRequest, inout PageBuffer) throws -> PageContents
  private let closing = Atomic<Bool>(false)
  let advice: RegionOptions.Advice
  let isWritable: Bool
  /// The most that one request asks for, in bytes: a multiple of `requestUnit`.
  let largestRequest: Int
  let streams = AccessStreams()
  @unsafe let uncountedProtection: Unmanaged<SigsegvServer>?
  /// The pages of a region that is guarded by its protection; nil where the kernel tells of missing pages.
  let twin: TwinMemory?
  /// What serves this region on its faulting threads; nil where a handler thread does.
  let faultingThreads: SigbusServer?
  /// The same for memory that is guarded by its protection.
  let protection: SigsegvServer?
  let name: String
  /// The number of the handler thread that serves this region; nil where the faulting threads do it themselves.
  let handler: Int?
  /// Whether the provider is asked on a thread of the pool.
  let mayBlock: Bool
  /// Whether several threads may ask at a time; faulting threads may in any case.
  let mayBeAskedConcurrently: Bool
  let mayRunInFaultingThread: Bool
  /// Whether a program that dies of a failed page of this region says why.
  let explainsFailures: Bool
  let failures = FailureLog()
  let pins = RegionPins()
  /// The provider's name, for messages.
  let providerName: String
  let retry: RetryPolicy
  /// How long a request may take, in nanoseconds; 0 for ever.
  let deadline: UInt64

  /// Where the memory is.
  let parts: Guarded<RegionParts>

  private let leftBehind = Atomic<Bool>(false)
  private let ownerProcess = cuffd_process_id()

  /// Maps memory for `byteCount` bytes over `provider`, where `isTaken` does not say that it is another region's.
  init<Provider: PageProvider>(
    provider: Provider, byteCount: Int, options: RegionOptions, name: String, pageSize: PageSize,
    hugePageByteCount: Int = 0, handler: Int?, faultingThreads: SigbusServer? = nil,
    protection: SigsegvServer? = nil, explainsFailures: Bool = true,
    isTaken: (AddressRange) -> Bool = { _ in false }
  ) throws(FaultRuntimeError) {
    guard byteCount > 0 else { throw .emptyRegion(name: name, byteCount: byteCount) }
    guard let mapped = pageSize.roundUp(byteCount) else { throw .cannotMap(name, byteCount, .outOfMemory) }
    let size = provider.requestSize
    guard let unit = pageSize.roundUp(size.preferred), let largest = pageSize.roundUp(size.largest) else {
      throw .requestTooLarge(name: name, byteCount: size.largest)
    }
    guard largest <= Self.largestRequestLimit else { throw .requestTooLarge(name: name, byteCount: largest) }

    self.isWritable = options.access == .readWrite
    self.advice = options.advice
    self.retry = options.retry
    self.deadline = options.timeout.map { max(1, $0.clampedNanoseconds) } ?? 0
    // Who waits between attempts, or may have to be given up, must not be the handler.
    self.mayBlock = provider.mayBlock || options.timeout != nil || options.retry.attempts > 1
    self.providerName = (provider as? any CustomStringConvertible)?.description ?? "\(Provider.self)"
    // So that huge pages can be moved in.
    let alignment = mapped >= hugePageByteCount ? hugePageByteCount : 0
    do throws(HostCallError) {
      let reserved = try Self.map(mapped, alignment: alignment, isWritable: isWritable, isTaken: isTaken)
      range = reserved
      do throws(HostCallError) {
        twin = try protection.map { server throws(HostCallError) in
          try TwinMemory(
            reserved, isWritable: options.access == .readWrite, pageSize: pageSize, budget: server.budget)
        }
      } catch {
        _ = cuffd_unmap(UInt64(reserved.start), reserved.byteCount)
        throw error
      }
    } catch {
      throw .cannotMap(name, byteCount, error.errno)
    }
    parts = Guarded(RegionParts(range))
    self.name = name
    self.byteCount = byteCount
    self.pageSize = pageSize
    self.handler = handler
    self.faultingThreads = faultingThreads
    unsafe uncountedFaultingThreads = faultingThreads.map { unsafe Unmanaged.passUnretained($0) }
    self.protection = protection
    unsafe uncountedProtection = protection.map { unsafe Unmanaged.passUnretained($0) }
    self.requestUnit = unit
    self.largestRequest = largest / unit * unit
    // Faulting threads share staging memory in slots.
    let limit = handler != nil ? Int.max : StagingPool.slotByteCount
    self.widestRequest = max(unit, min(largest, limit) / unit * unit)
    self.mayBeAskedConcurrently = provider.mayRunInFaultingThread
    self.mayRunInFaultingThread = provider.mayRunInFaultingThread
    self.explainsFailures = explainsFailures
    self.provide = { request, buffer in try provider.page(request, into: &buffer) }
  }

  private static func map(
    _ byteCount: Int, alignment: Int, isWritable: Bool, isTaken: (AddressRange) -> Bool
  ) throws(HostCallError) -> AddressRange {
    // The program may have unmapped a part of an open region. What that region's requests bring must not land in another one.
    var holes: [AddressRange] = []
    defer { for hole in holes { _ = cuffd_unmap(UInt64(hole.start), hole.byteCount) } }
    while true {
      var address: UnsafeMutableRawPointer?
      if let errno = unsafe KernelErrno(returned: cuffd_map_lazy(byteCount, alignment, isWritable, &address)) {
        throw HostCallError(call: "mmap", errno: errno)
      }
      let range = AddressRange(start: UInt(bitPattern: address), byteCount: byteCount)
      guard isTaken(range) else { return range }
      // Kept until another place is found, or the kernel would name it again.
      holes.append(range)
    }
  }

  deinit {
    guard isInOwnerProcess else { return }
    for part in memory { _ = cuffd_unmap(UInt64(part.start), part.byteCount) }
  }

  /// Where the memory is: nothing else may be touched, since it may be somebody else's by now.
  private var memory: [AddressRange] { parts.withLock { $0.ranges } }

  /// Staging for one request is memory of the handler's own: a request beyond this is a mistake, not a wish.
  static let largestRequestLimit = 1 << 30

  /// In a forked child the descriptor still acts on the parent's memory, and the mapping is not there.
  var isInOwnerProcess: Bool { cuffd_process_id() == ownerProcess }

  var isClosing: Bool { closing.load(ordering: .acquiring) }

  /// Whether closing could not take the memory away.
  var isLeftBehind: Bool { leftBehind.load(ordering: .acquiring) }

  /// True for the one caller that begins the closing.
  func beginClosing() -> Bool { !closing.exchange(true, ordering: .acquiringAndReleasing) }

  /// Takes every access away: from now on a touch is SIGSEGV, and never a page of zeros.
  private func revokeAccess() -> KernelErrno? {
    for part in memory {
      if let errno = KernelErrno(returned: cuffd_protect_none(UInt64(part.start), part.byteCount)) { return errno }
    }
    return nil
  }

  /// Keeps a failure, and tells the hook.
  func report(_ cause: any Error, atPage page: UInt, to hook: (@Sendable (PageFailure) -> Void)?) {
    let failure = failure(cause, atPage: page)
    failures.record(failure)
    hook?(failure)
  }

  func failure(_ cause: any Error, atPage page: UInt) -> PageFailure {
    PageFailure(
      region: name, offset: originalOffset(of: page), byteCount: pageSize.bytes, provider: providerName, cause: cause)
  }

  /// The offset of a page that may have been moved.
  func originalOffset(of page: UInt) -> Int {
    offset(of: parts.withLock { $0.origin(of: page) } ?? page)
  }

  /// Whether a fault met by the closing of its region is an old one: it was read, and then somebody else filled its page.
  func hasBeenServed(_ page: UInt) -> Bool { isClosing && isThere(page) }

  /// Whether a page has its bytes. A poisoned one has not.
  func isThere(_ page: UInt) -> Bool { twin?.isThere(page) ?? (cuffd_is_resident(UInt64(page)) != 0) }

  /// What a touch of a page that could not be produced raises.
  var failureSignal: CInt { twin == nil ? CUFFD_SIGBUS : CUFFD_SIGSEGV }

  /// Ends the service of a region whose closing has begun, so that nobody can read a page that no provider gave.
  func withdraw(from table: RegionTable, _ uffd: borrowing Userfaultfd) {
    // Unregistering wakes who waits, and the kernel would answer them with zeros. So access goes first.
    if revokeAccess() != nil {
      // At the limit of mappings. The region stays in the table, and each fault of it is poisoned.
      leftBehind.store(true, ordering: .releasing)
      // Without poison nobody has answered those who wait. They ask again.
      if !uffd.canPoison { for part in memory { try? uffd.wake(part) } }
      return
    }
    table.remove(self)
    for part in memory {
      try? uffd.unregister(part)
      try? uffd.wake(part)
    }
    discardPages()
  }

  /// Gives the pages back to the system. Access must have been revoked and the range unregistered.
  private func discardPages() {
    for part in memory { _ = cuffd_discard(UInt64(part.start), part.byteCount) }
  }

  func offset(of address: UInt) -> Int { Int(bitPattern: address &- range.start) }
}
