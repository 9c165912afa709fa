internal import CUFFD
internal import Synchronization

/// The memory of a region whose missing pages are guarded without a userfaultfd. The pages belong to one memfd, which
/// is mapped twice. The program uses the first mapping, in which the runtime opens a page when the page is complete.
/// The runtime fills the page through the second mapping, the twin, so no thread ever sees a half-filled page.
///
/// A missing page has a guard marker (`MADV_GUARD_INSTALL`), which costs no mapping and holds whatever the program does
/// to the protection. Before Linux 6.15, and in regions for which the markers would take too much memory, it is a page
/// without access (`mprotect(2)`).
///
/// A thread holds one lock while it copies and opens pages, but not while a provider runs. The thread that holds the
/// lock does not fault, does not allocate, and is not interrupted by signal handlers that may fault. For this reason
/// a handler of a fault never interrupts the holder of the lock that it needs.
@safe
// Safe to share: all mutable state is atomic, or protected by a lock.
final class TwinMemory: RegionMemory, @unchecked Sendable {
  /// The state of a page. Only the thread that holds the lock changes it.
  enum PageState {
    /// The page has not been produced yet. The value is 0 because new memory from the kernel contains zeros.
    static var absent: UInt8 { 0 }
    /// The program can access the page.
    static var open: UInt8 { 1 }
    /// The page could not be produced.
    static var failed: UInt8 { 2 }
  }

  let range: AddressRange
  let isWritable: Bool
  let parts: Monitor<RegionParts>

  private let twin: UInt
  let pageSize: PageSize
  let budget: MappingBudget
  let reserve: MappingReserve?
  /// Whether missing pages have guard markers.
  let isGuarded: Bool
  /// The states of all pages. This is anonymous memory: a part that was never written reads as `absent` and
  /// costs no memory.
  private let states: UnsafeMutablePointer<Atomic<UInt8>>
  let pageCount: Int
  /// The number of runs of open pages. A run is a sequence of open pages without a gap. The lock of this value is the
  /// lock that the description of the type means.
  let runs = Monitor(0, holdsSignals: false)
  /// Whether all access has been taken away for good. Only the thread that holds the lock changes this.
  private let revoked = Atomic<Bool>(false)
  /// Whether pages can still be read after the access was to be taken away, because the program has sealed them
  /// (`mseal(2)`). They keep their bytes for the rest of the process.
  private let isSealed = Atomic<Bool>(false)
  private let ownerProcess = cuffd_address_space()
  #if DEBUG
    /// For tests. This is called when pages have been opened but their states do not say so yet.
    let afterOpening = Monitor<(@Sendable () -> Void)?>(nil)
  #endif

  /// Maps the pages of a new memfd over `range`, which was reserved for this memory. The object owns `range` from
  /// then on. If this throws, `range` still belongs to the caller, and nothing else stays mapped.
  init(
    _ range: AddressRange, isWritable: Bool, pageSize: PageSize, budget: MappingBudget, mayGuard: Bool = true
  ) throws(HostCallError) {
    self.range = range
    isGuarded = mayGuard && range.byteCount <= Self.largestGuarded && cuffd_has_guards()
    self.isWritable = isWritable
    parts = Monitor(RegionParts(range))
    self.pageSize = pageSize
    self.budget = budget
    try budget.addRegion()
    reserve = isGuarded ? nil : budget.reserve(pageSize: pageSize)
    pageCount = range.byteCount / pageSize.bytes
    var notes: UnsafeMutableRawPointer?
    if let errno = unsafe KernelErrno(returned: cuffd_map_anonymous(pageCount, true, &notes)) {
      budget.removeRegion()
      throw HostCallError(call: "mmap", errno: errno)
    }
    var mapped: UnsafeMutableRawPointer?
    if let errno = unsafe KernelErrno(returned: cuffd_twin_map(UInt64(range.start), range.byteCount, &mapped)) {
      _ = cuffd_unmap(UInt64(UInt(bitPattern: notes)), pageCount)
      budget.removeRegion()
      throw HostCallError(call: "memfd_create", errno: errno)
    }
    twin = UInt(bitPattern: mapped)
    if isGuarded, let errno = Self.guardAll(range, isWritable: isWritable) {
      // The caller unmaps the range itself.
      _ = cuffd_unmap(UInt64(twin), range.byteCount)
      _ = cuffd_unmap(UInt64(UInt(bitPattern: notes)), pageCount)
      budget.removeRegion()
      throw HostCallError(call: "madvise", errno: errno)
    }
    // The memory contains zeros, which are valid atomics with the value zero.
    unsafe states = notes!.bindMemory(to: Atomic<UInt8>.self, capacity: pageCount)
  }

  deinit {
    // A forked child has a copy of the states, but neither of the two mappings of the memfd.
    _ = unsafe cuffd_unmap(UInt64(UInt(bitPattern: states)), pageCount)
    guard cuffd_address_space() == ownerProcess else { return }
    budget.add(-runs.withLock { $0 })
    _ = cuffd_unmap(UInt64(twin), range.byteCount)
    _ = cuffd_unmap(UInt64(range.start), range.byteCount)
    budget.removeRegion()
  }

  var failureSignal: CInt { CUFFD_SIGSEGV }

  // MARK: Resident pages

  @inline(__always)
  func index(of address: UInt) -> Int { Int(bitPattern: address &- range.start) / pageSize.bytes }

  @inline(__always)
  func state(_ index: Int) -> UInt8 { unsafe states[index].load(ordering: .acquiring) }

  /// Stores the state of a page. The caller holds the lock.
  @inline(__always)
  func setState(_ index: Int, _ state: UInt8) { unsafe states[index].store(state, ordering: .releasing) }

  @inline(__always)
  func state(at address: UInt) -> UInt8 { state(index(of: address)) }

  /// Returns whether the program can access the page. Takes the lock if the page does not seem to be open.
  func isThere(_ address: UInt) -> Bool {
    guard range.contains(address), !isRevoked else { return false }
    if state(at: address) == PageState.open { return true }
    // Other threads can already use a page shortly before the thread that has opened it stores the state. That thread
    // holds the lock until it has stored the state.
    return holdingSignals { runs.withLock { _ in state(at: address) == PageState.open } }
  }

  /// The lock keeps the page open during the copy, which therefore does not fault.
  func copyIfPresent(_ page: AddressRange, to destination: UnsafeMutableRawPointer) -> Bool {
    holdingSignals {
      runs.withLock { _ in
        guard !isRevoked, state(at: page.start) == PageState.open else { return false }
        let source = unsafe UnsafeRawPointer(bitPattern: page.start)!
        return unsafe cuffd_try_copy(destination, source, page.byteCount) == 0
      }
    }
  }

  /// Waits until no thread changes pages, and returns the state of the page at `address`. In a signal handler only,
  /// where other signals are blocked.
  func settledState(at address: UInt) -> UInt8 { runs.withLock { _ in state(at: address) } }

  /// Whether all access has been taken away for good.
  @inline(__always)
  var isRevoked: Bool { revoked.load(ordering: .acquiring) }

  /// Whether this process made the memory. In a forked child the memory is not mapped, and other code may use the
  /// addresses.
  var isInOwnerProcess: Bool { cuffd_address_space() == ownerProcess }

  func noteResident(_ part: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno? {
    let first = index(of: part.start)
    // The lock is necessary because threads may already have written to a page whose state does not say yet
    // that it is open.
    holdingSignals {
      runs.withLock { _ in
        for page in 0..<(part.byteCount / pageSize.bytes) {
          unsafe notes[page] = state(first + page) == PageState.open ? 1 : 0
        }
      }
    }
    return nil
  }

  /// Failed pages count as empty, because this memory has no poison.
  func noteOccupied(_ part: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno? {
    unsafe noteResident(part, in: notes)
  }

  // MARK: Placing pages

  @inline(__always)
  func place(_ part: AnswerPart, after done: Int, effort: PlacingEffort) -> ResolutionStep {
    if effort.contains(.inSignalHandler) { return unsafe fillAndOpen(part, after: done, effort) }
    return holdingSignals { unsafe fillAndOpen(part, after: done, effort) }
  }

  /// Fills and opens the pages of `part` behind the first `done` bytes, up to the first page that is open already.
  /// The result has the same meaning as the result of `UFFDIO_COPY`.
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
      var areZeros = false
      switch unsafe part.content {
      case .bytes(let source, let isStaged):
        if let errno = unsafe fill(target, from: source + done, isStaged: isStaged) { return .fail(errno) }
      case .zeros:
        areZeros = true
      case .pageCache:
        // This memory has no minor faults.
        return .misuse(.invalidArgument)
      }
      if isGuarded {
        let step = unguardOwn(target, areZeros: areZeros)
        return step == .done && length < count ? .goOn(completed: target.byteCount) : step
      }
      if let errno = open(target, first, length, isLastTry: effort.contains(.lastTry), &runs) {
        // `mprotect(2)` may have opened some of the pages before it failed. The program must not see zeros there, so
        // the bytes are removed only if all pages could be closed again.
        if cuffd_protect_none(UInt64(target.start), target.byteCount) >= 0 { removePages(target) }
        // Opening pages needs no memory. What it may lack is mappings.
        return errno == .noMemory ? .failForMappings : .fail(errno)
      }
      return length == count ? .done : .goOn(completed: target.byteCount)
    }
  }

  private func fill(_ target: AddressRange, from source: UnsafeRawPointer, isStaged: Bool) -> KernelErrno? {
    let place = twin &+ (target.start &- range.start)
    if let errno = allocate(target) { return errno }
    let pointer = unsafe UnsafeMutableRawPointer(bitPattern: place)!
    if isStaged {
      unsafe pointer.copyMemory(from: source, byteCount: target.byteCount)
    } else if unsafe cuffd_copy_if_readable(pointer, source, target.byteCount) < 0 {
      removePages(target)
      return .badAddress
    }
    return nil
  }

  /// Allocates the pages, so that a lack of memory is an error here, and not a signal when they are written.
  func allocate(_ target: AddressRange) -> KernelErrno? {
    KernelErrno(
      returned: cuffd_twin_populate(UInt64(twin &+ (target.start &- range.start)), target.byteCount))
  }

  /// Removes the bytes of pages that were not opened, because the pages of the memfd have to be zero until they are
  /// produced.
  func removePages(_ target: AddressRange) {
    _ = cuffd_twin_remove(UInt64(twin &+ (target.start &- range.start)), target.byteCount)
  }

  private func open(
    _ target: AddressRange, _ first: Int, _ count: Int, isLastTry: Bool, _ runs: inout Int
  ) -> KernelErrno? {
    var errno = protectOpen(target)
    if isLastTry, let reserve {
      // Two mappings may not be enough, because `mmap(2)` goes one beyond the limit and because other threads may be
      // faster.
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
    // The pages have joined two runs, so two mappings are free again.
    if added < 0 { reserve?.restore() }
    for page in first..<(first + count) { setState(page, PageState.open) }
    return nil
  }

  @_noLocks @_noAllocation
  private func protectOpen(_ target: AddressRange) -> KernelErrno? {
    KernelErrno(returned: cuffd_twin_open(UInt64(target.start), target.byteCount, isWritable))
  }

  /// Returns how many runs of open pages end right before the given pages or begin right behind them: 0, 1 or 2.
  func neighbours(_ first: Int, _ count: Int) -> Int {
    let hasLeft = first > 0 && state(first - 1) == PageState.open
    let hasRight = first + count < pageCount && state(first + count) == PageState.open
    return (hasLeft ? 1 : 0) + (hasRight ? 1 : 0)
  }

  func failPage(_ page: AddressRange) -> ResolutionStep {
    runs.withLock { _ in
      if state(at: page.start) == PageState.open { return .present }
      setState(index(of: page.start), PageState.failed)
      return .done
    }
  }

  var canFailPages: Bool { true }

  /// Does nothing, because no thread sleeps in the kernel until a page of this memory is there.
  func wake(_ range: AddressRange) {}

  /// Always false, because `UFFDIO_MOVE` does not support the pages of a memfd.
  var movesPages: Bool { false }

  func moveIn(_ range: AddressRange, from source: UInt) -> ResolutionStep { .copyInstead }

  // MARK: Removing the memory

  var isLeftBehind: Bool { false }

  /// Always returns true, because a change of protection for the whole range needs no additional mapping.
  func revokeAccess() -> Bool {
    holdingSignals { revoke() }
    return true
  }

  private func revoke() {
    runs.withLock { runs in
      guard !isRevoked else { return }
      revoked.store(true, ordering: .releasing)
      // This call divides no mapping, so it needs no additional one. If the program has unmapped a part of the range,
      // the call stops at the gap, and the runs of open pages are closed one by one.
      if cuffd_protect_none(UInt64(range.start), range.byteCount) < 0, !closeRuns() {
        isSealed.store(true, ordering: .releasing)
      }
      budget.add(-runs)
      runs = 0
    }
  }

  /// Closes the runs of open pages, of which the program may have unmapped parts. Returns false if pages that are
  /// mapped could not be closed.
  private func closeRuns() -> Bool {
    var isClosed = true
    var page = 0
    while page < pageCount {
      guard state(page) == PageState.open else {
        page += 1
        continue
      }
      var end = page
      while end < pageCount, state(end) == PageState.open { end += 1 }
      // Each call goes up to the end of the run. It thus divides no mapping, and cannot fail for lack of mappings, but
      // only at a gap. Open pages that were left behind would read as zero after `withdraw`.
      while page < end,
        let errno = KernelErrno(
          returned: cuffd_protect_none(
            UInt64(range.start) + UInt64(page * pageSize.bytes), (end - page) * pageSize.bytes))
      {
        // A gap is ENOMEM.
        if errno != .noMemory { isClosed = false }
        page += 1
      }
      page = end
    }
    return isClosed
  }

  func withdraw() {
    // Pages that can still be read would read as zero without their bytes.
    guard !isSealed.load(ordering: .acquiring) else { return }
    _ = cuffd_twin_remove(UInt64(twin), range.byteCount)
  }
}
