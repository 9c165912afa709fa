internal import CUFFD
internal import Synchronization

/// The memory of a region that is guarded by its protection: the pages of one memfd, mapped twice. The program sees one mapping,
/// in which a page is opened when it is complete. The page is filled through the other mapping, the twin, so nobody ever sees a
/// page that is half filled.
///
/// One lock is held while a page is copied and opened, and never while a provider runs. The thread that holds it neither faults
/// nor allocates, and cannot be interrupted by anything that may fault.
@safe
// Safe to share: what changes is atomic, or behind the lock.
final class TwinMemory: RegionMemory, @unchecked Sendable {
  /// What is known of a page. Written with the lock held.
  enum PageState {
    /// Nobody has produced it; memory is zero, which is what the kernel says of it.
    static var absent: UInt8 { 0 }
    /// The program can see it.
    static var open: UInt8 { 1 }
    /// It could not be produced.
    static var failed: UInt8 { 2 }
  }

  let range: AddressRange
  let isWritable: Bool
  let parts: Monitor<RegionParts>

  private let twin: UInt
  let pageSize: PageSize
  let budget: MappingBudget
  let reserve: MappingReserve?
  /// One for each page. Anonymous memory: the kernel's zeros are `absent`, and cost nothing.
  private let states: UnsafeMutablePointer<Atomic<UInt8>>
  let pageCount: Int
  /// How many stretches of open pages there are, with others around them. Its lock is the one that is held.
  private let runs = Monitor(0)
  /// Whether all access has been taken away, for good. Written with the lock held.
  private let revoked = Atomic<Bool>(false)
  private let ownerProcess = cuffd_process_id()
  #if DEBUG
    /// For tests: called where pages can be used and nobody knows yet.
    let afterOpening = Monitor<(@Sendable () -> Void)?>(nil)
  #endif

  /// Maps new pages over `range`, which was reserved for it and which it takes over, unless it throws.
  init(_ range: AddressRange, isWritable: Bool, pageSize: PageSize, budget: MappingBudget) throws(HostCallError) {
    self.range = range
    self.isWritable = isWritable
    parts = Monitor(RegionParts(range))
    self.pageSize = pageSize
    self.budget = budget
    reserve = budget.reserve(pageSize: pageSize)
    pageCount = range.byteCount / pageSize.bytes
    var notes: UnsafeMutableRawPointer?
    if let errno = unsafe KernelErrno(returned: cuffd_map_anonymous(pageCount, true, &notes)) {
      throw HostCallError(call: "mmap", errno: errno)
    }
    var mapped: UnsafeMutableRawPointer?
    if let errno = unsafe KernelErrno(returned: cuffd_twin_map(UInt64(range.start), range.byteCount, &mapped)) {
      _ = cuffd_unmap(UInt64(UInt(bitPattern: notes)), pageCount)
      throw HostCallError(call: "memfd_create", errno: errno)
    }
    twin = UInt(bitPattern: mapped)
    // Zeros are what atomics of zero look like.
    unsafe states = notes!.bindMemory(to: Atomic<UInt8>.self, capacity: pageCount)
    budget.forgetParents()
  }

  deinit {
    // Neither is mapped in a forked child, but for the notes, which are its own.
    _ = unsafe cuffd_unmap(UInt64(UInt(bitPattern: states)), pageCount)
    guard cuffd_process_id() == ownerProcess else { return }
    budget.add(-runs.withLock { $0 })
    _ = cuffd_unmap(UInt64(twin), range.byteCount)
    _ = cuffd_unmap(UInt64(range.start), range.byteCount)
  }

  var failureSignal: CInt { CUFFD_SIGSEGV }

  // MARK: What is there

  @inline(__always)
  func index(of address: UInt) -> Int { Int(bitPattern: address &- range.start) / pageSize.bytes }

  @inline(__always)
  func state(_ index: Int) -> UInt8 { unsafe states[index].load(ordering: .acquiring) }

  @inline(__always)
  func state(at address: UInt) -> UInt8 { state(index(of: address)) }

  /// Whether the program can see the page.
  func isThere(_ address: UInt) -> Bool {
    guard range.contains(address), !isRevoked else { return false }
    if state(at: address) == PageState.open { return true }
    // Whoever opens it may not have said so yet, while others use it already.
    return holdingSignals { runs.withLock { _ in state(at: address) == PageState.open } }
  }

  /// Whether all access has been taken away for good.
  @inline(__always)
  var isRevoked: Bool { revoked.load(ordering: .acquiring) }

  /// In a forked child the memory is not mapped, and the address may be somebody else's.
  var isInOwnerProcess: Bool { cuffd_process_id() == ownerProcess }

  func noteResident(_ part: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno? {
    let first = index(of: part.start)
    // With the lock, or a page that others have written to already might still be told to be absent.
    holdingSignals {
      runs.withLock { _ in
        for page in 0..<(part.byteCount / pageSize.bytes) {
          unsafe notes[page] = state(first + page) == PageState.open ? 1 : 0
        }
      }
    }
    return nil
  }

  /// Pages that failed have nothing in them here.
  func noteOccupied(_ part: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno? {
    unsafe noteResident(part, in: notes)
  }

  // MARK: Putting pages in place

  @inline(__always)
  func place(_ part: AnswerPart, after done: Int, effort: PlacingEffort) -> ResolutionStep {
    if effort.contains(.inSignalHandler) { return unsafe fillAndOpen(part, after: done, effort) }
    return holdingSignals { unsafe fillAndOpen(part, after: done, effort) }
  }

  /// Fills the pages of `part` behind the first `done` bytes, as far as none of them is there, and opens them. The results are
  /// those of `UFFDIO_COPY`.
  private func fillAndOpen(_ part: AnswerPart, after done: Int, _ effort: PlacingEffort) -> ResolutionStep {
    let rest = unsafe part.range.dropping(done)
    let first = index(of: rest.start)
    let count = rest.byteCount / pageSize.bytes
    return runs.withLock { runs in
      if isRevoked { return .gone }
      var length = 0
      while length < count, state(first + length) != PageState.open { length += 1 }
      if length == 0 { return .present }
      let target = rest.prefix(length * pageSize.bytes)
      switch unsafe part.content {
      case .bytes(let source, let isStaged):
        if let errno = unsafe fill(target, from: source + done, isStaged: isStaged) { return .fail(errno) }
      case .zeros:
        break
      case .pageCache:
        // Nothing reports minor faults of this memory.
        return .misuse(.invalidArgument)
      }
      if let errno = open(target, first, length, isLastTry: effort.contains(.lastTry), &runs) {
        // Some of them may have been opened. Zeros must not be seen there.
        if cuffd_protect_none(UInt64(target.start), target.byteCount) >= 0 { removePages(target) }
        return .fail(errno)
      }
      return length == count ? .done : .goOn(completed: target.byteCount)
    }
  }

  private func fill(_ target: AddressRange, from source: UnsafeRawPointer, isStaged: Bool) -> KernelErrno? {
    let place = twin &+ (target.start &- range.start)
    // So that a lack of memory is an error here, and no signal in the copy.
    if let errno = KernelErrno(returned: cuffd_twin_populate(UInt64(place), target.byteCount)) { return errno }
    let pointer = unsafe UnsafeMutableRawPointer(bitPattern: place)!
    if isStaged {
      unsafe pointer.copyMemory(from: source, byteCount: target.byteCount)
    } else if unsafe cuffd_copy_if_readable(pointer, source, target.byteCount) < 0 {
      removePages(target)
      return .badAddress
    }
    return nil
  }

  /// What was begun is zero again, as pages that nobody has produced have to be.
  private func removePages(_ target: AddressRange) {
    _ = cuffd_twin_remove(UInt64(twin &+ (target.start &- range.start)), target.byteCount)
  }

  private func open(
    _ target: AddressRange, _ first: Int, _ count: Int, isLastTry: Bool, _ runs: inout Int
  ) -> KernelErrno? {
    var errno = protectOpen(target)
    if isLastTry, let reserve {
      // Two mappings may not be enough: mmap(2) goes one beyond the limit, and others may be faster.
      var tries = 0
      while errno == .noMemory, tries < 4, reserve.release() {
        errno = protectOpen(target)
        tries += 1
      }
    }
    if let errno { return errno }
    #if DEBUG
      afterOpening.withLock { $0 }?()
    #endif
    let added = 1 - neighbours(first, count)
    runs += added
    if added != 0 { budget.add(added) }
    // Two runs have become one.
    if added < 0 { reserve?.restore() }
    for page in first..<(first + count) { unsafe states[page].store(PageState.open, ordering: .releasing) }
    return nil
  }

  @_noLocks @_noAllocation
  private func protectOpen(_ target: AddressRange) -> KernelErrno? {
    KernelErrno(returned: cuffd_twin_open(UInt64(target.start), target.byteCount, isWritable))
  }

  /// How many runs of open pages begin or end right where these do.
  func neighbours(_ first: Int, _ count: Int) -> Int {
    let hasLeft = first > 0 && state(first - 1) == PageState.open
    let hasRight = first + count < pageCount && state(first + count) == PageState.open
    return (hasLeft ? 1 : 0) + (hasRight ? 1 : 0)
  }

  func failPage(_ page: AddressRange) -> ResolutionStep {
    runs.withLock { _ in
      if state(at: page.start) == PageState.open { return .present }
      unsafe states[index(of: page.start)].store(PageState.failed, ordering: .releasing)
      return .done
    }
  }

  var canFailPages: Bool { true }

  /// Nobody sleeps on a page of this memory in the kernel.
  func wake(_ range: AddressRange) {}

  /// Huge pages of a memfd cannot be moved in.
  var movesPages: Bool { false }

  func moveIn(_ range: AddressRange, from source: UInt) throws(ResolveError) {
    throw ResolveError(request: .move, errno: .invalidArgument, completedByteCount: 0)
  }

  // MARK: The memory goes

  var isLeftBehind: Bool { false }

  /// Nothing can keep this from happening.
  func revokeAccess() -> Bool {
    holdingSignals { revoke() }
    return true
  }

  private func revoke() {
    runs.withLock { runs in
      guard !isRevoked else { return }
      revoked.store(true, ordering: .releasing)
      // Parting nothing, this needs no mapping. It ends early where the program has unmapped some of it.
      if cuffd_protect_none(UInt64(range.start), range.byteCount) < 0 { closeEach() }
      budget.add(-runs)
      runs = 0
    }
  }

  private func closeEach() {
    for page in 0..<pageCount where state(page) == PageState.open {
      _ = cuffd_protect_none(UInt64(range.start) + UInt64(page * pageSize.bytes), pageSize.bytes)
    }
  }

  func withdraw() { _ = cuffd_twin_remove(UInt64(twin), range.byteCount) }
}
