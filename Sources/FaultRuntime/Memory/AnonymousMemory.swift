internal import CUFFD
internal import Synchronization

/// Anonymous memory of this process whose faults a userfaultfd reports.
///
/// The object owns the mapping and removes it when the last reference to the object goes. Every thread that may still
/// answer a fault holds a reference, so a late answer never lands in an address range that other code has mapped since.
final class AnonymousMemory: RegionMemory {
  let range: AddressRange
  let isWritable: Bool
  let parts: Monitor<RegionParts>

  private let pageSize: PageSize
  let userfaultfd: SharedUserfaultfd
  private let leftBehind = Atomic<Bool>(false)
  private let ownerProcess = cuffd_address_space()

  /// Takes over `range`, which was reserved for this memory. The delivery that serves the faults registers it.
  init(_ range: AddressRange, isWritable: Bool, pageSize: PageSize, userfaultfd: SharedUserfaultfd) {
    self.range = range
    self.isWritable = isWritable
    self.pageSize = pageSize
    self.userfaultfd = userfaultfd
    parts = Monitor(RegionParts(range))
  }

  deinit {
    // In a forked child the memory is not mapped, and other code may use the addresses.
    guard cuffd_address_space() == ownerProcess else { return }
    // The memory is still registered where the program has taken the descriptor away. Unmapping it would wait until a
    // thread has read the event, which no thread can. It stays without access.
    if userfaultfd.uffd.isLost { return }
    _ = unmap()
  }

  /// The parts that still belong to the memory. Only these may be touched: other code may use the rest of `range`.
  private var remains: [AddressRange] { parts.withLock { $0.ranges } }

  var failureSignal: CInt { CUFFD_SIGBUS }

  /// Makes the kernel report the faults of the memory (`UFFDIO_REGISTER`).
  func register() throws(UserfaultfdError) { try userfaultfd.uffd.register(range, mode: .missing) }

  // MARK: Resident pages

  func isThere(_ page: UInt) -> Bool { cuffd_is_resident(UInt64(page)) != 0 }

  func noteResident(_ range: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno? {
    unsafe KernelErrno(returned: cuffd_residency(UInt64(range.start), range.byteCount, notes))
  }

  func noteOccupied(_ range: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno? {
    guard
      let errno = unsafe KernelErrno(returned: cuffd_page_states(UInt64(range.start), range.byteCount, notes))
    else { return nil }
    // The process has no descriptor left for `/proc/thread-self/pagemap`, or no `/proc`, or may not read its own file
    // there.
    return unsafe noteOccupiedWithoutFile(range, mayBeSwapped: cuffd_host_has_swap(), in: notes) == nil ? nil : errno
  }

  /// Does the same as ``noteOccupied(_:in:)`` without a file. A page that failed counts as empty. Where the host has
  /// swap and the descriptor serves system calls, missing pages are asked for and become resident.
  func noteOccupiedWithoutFile(
    _ range: AddressRange, mayBeSwapped: Bool, in notes: UnsafeMutablePointer<UInt8>
  ) -> KernelErrno? {
    unsafe KernelErrno(
      returned: cuffd_page_states_without_file(UInt64(range.start), range.byteCount, mayBeSwapped, notes))
  }

  /// The kernel does not read a poisoned page (`process_vm_readv(2)`). Where the descriptor serves system calls, it
  /// asks for a missing one.
  func copyIfPresent(_ page: AddressRange, to destination: UnsafeMutableRawPointer) -> Bool {
    let source = unsafe UnsafeRawPointer(bitPattern: page.start)!
    return unsafe cuffd_try_copy(destination, source, page.byteCount) == 0
  }

  // MARK: Placing pages

  @inline(__always)
  func place(_ part: AnswerPart, after done: Int, effort: PlacingEffort) -> ResolutionStep {
    do {
      try unsafe put(part, after: done)
      return .done
    } catch {
      return unsafe judge(error, of: part, after: done)
    }
  }

  @inline(__always)
  private func put(_ part: AnswerPart, after done: Int) throws(ResolveError) {
    let rest = unsafe part.range.dropping(done)
    switch unsafe part.content {
    case .bytes(let source, _): try unsafe userfaultfd.uffd.copy(rest, from: source + done)
    case .zeros: try userfaultfd.uffd.zeropage(rest)
    case .pageCache: try userfaultfd.uffd.continue(rest)
    }
  }

  /// Turns an error of a placing request into the next step.
  ///
  /// The kernel also reports a poisoned page as present, but zeros have to replace poison. In that case this function
  /// copies zeros to the page. An error of the copy is judged like any other error, because the page is not resident.
  private func judge(_ error: ResolveError, of part: AnswerPart, after done: Int) -> ResolutionStep {
    let step = ResolutionStep.after(error.request, completed: error.completedByteCount, errno: error.errno)
    guard step == .present, case .zeros = unsafe part.content else { return step }
    let page = unsafe part.range.dropping(done).prefix(pageSize.bytes)
    guard !isThere(page.start) else { return .present }
    do {
      try unsafe userfaultfd.uffd.copy(page, from: cuffd_zeros())
      return .goOn(completed: page.byteCount)
    } catch {
      return .after(error.request, completed: error.completedByteCount, errno: error.errno)
    }
  }

  func failPage(_ page: AddressRange) -> ResolutionStep {
    do {
      try userfaultfd.uffd.poison(page)
      return .done
    } catch {
      return .after(.poison, completed: 0, errno: error.errno)
    }
  }

  var canFailPages: Bool { userfaultfd.uffd.canPoison }

  /// Errors are ignored, because they mean that no thread can be waiting in the range.
  func wake(_ range: AddressRange) { try? userfaultfd.uffd.wake(range) }

  var movesPages: Bool { userfaultfd.uffd.available.contains(.move) }

  func moveIn(_ range: AddressRange, from source: UInt) -> ResolutionStep {
    do {
      try userfaultfd.uffd.move(range, from: source)
      return .done
    } catch {
      return .after(error.request, completed: error.completedByteCount, errno: error.errno)
    }
  }

  // MARK: Removing the memory

  /// With `UFFD_FEATURE_EVENT_REMOVE` the call waits until the handler has read the event (`MADV_DONTNEED`), so no
  /// handler thread may make it.
  func discard(_ range: AddressRange) -> KernelErrno? {
    var failure: KernelErrno?
    for part in remains {
      guard let own = part.intersection(range) else { continue }
      failure = KernelErrno(returned: cuffd_discard(UInt64(own.start), own.byteCount)) ?? failure
    }
    return failure
  }

  var isLeftBehind: Bool { leftBehind.load(ordering: .acquiring) }

  /// Unmaps the parts that still belong to the memory. Returns false if the kernel has refused that for one of them.
  ///
  /// Where the memory is registered, the call waits until the handler has read the event (`munmap(2)`), so no handler
  /// thread may make it.
  func unmap() -> Bool {
    var hasUnmapped = true
    for part in remains {
      if cuffd_unmap(UInt64(part.start), part.byteCount) < 0 {
        hasUnmapped = false
      } else {
        parts.withLock { $0.remove(part) }
      }
    }
    return hasUnmapped
  }

  func revokeAccess() -> Bool {
    for part in remains {
      // This fails at the limit of mappings, where the program has sealed the memory (`mseal(2)`), and where a filter
      // of system calls forbids it. The region's faults are still reported, and each of them fails.
      if cuffd_protect_none(UInt64(part.start), part.byteCount) < 0 { leftBehind.store(true, ordering: .releasing) }
    }
    guard isLeftBehind else { return true }
    // Faults that wait for a provider, or came since closing began, have no answer yet. Their threads try again.
    remains.forEach(wake)
    return false
  }

  func withdraw() {
    // Unregistering wakes the waiting threads, and the kernel would answer their faults with zeros if access had not
    // been revoked before.
    for part in remains {
      try? userfaultfd.uffd.unregister(part)
      wake(part)
    }
    for part in remains { _ = discard(part) }
  }
}
