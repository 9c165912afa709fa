internal import CUFFD
internal import Synchronization

/// Anonymous memory of this process whose faults a userfaultfd reports. It owns the mapping: the last one that holds this object
/// unmaps, so an answer that comes late can never land in an address range that was given to somebody else.
final class AnonymousMemory: RegionMemory {
  let range: AddressRange
  let isWritable: Bool
  let parts: Monitor<RegionParts>

  private let pageSize: PageSize
  let userfaultfd: SharedUserfaultfd
  private let leftBehind = Atomic<Bool>(false)
  private let ownerProcess = cuffd_process_id()

  /// Takes over `range`, which was reserved for it and is registered by whoever serves it.
  init(_ range: AddressRange, isWritable: Bool, pageSize: PageSize, userfaultfd: SharedUserfaultfd) {
    self.range = range
    self.isWritable = isWritable
    self.pageSize = pageSize
    self.userfaultfd = userfaultfd
    parts = Monitor(RegionParts(range))
  }

  deinit {
    // In a forked child the memory is not mapped, and the addresses may be somebody else's.
    guard cuffd_process_id() == ownerProcess else { return }
    for part in remains { _ = cuffd_unmap(UInt64(part.start), part.byteCount) }
  }

  /// Where the memory is. Nothing else may be touched, since it may be somebody else's by now.
  private var remains: [AddressRange] { parts.withLock { $0.ranges } }

  var failureSignal: CInt { CUFFD_SIGBUS }

  /// Has the faults of the memory reported (`UFFDIO_REGISTER`).
  func register() throws(UserfaultfdError) { try userfaultfd.uffd.register(range, mode: .missing) }

  // MARK: What is there

  func isThere(_ page: UInt) -> Bool { cuffd_is_resident(UInt64(page)) != 0 }

  func noteResident(_ range: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno? {
    unsafe KernelErrno(returned: cuffd_residency(UInt64(range.start), range.byteCount, notes))
  }

  func noteOccupied(_ range: AddressRange, in notes: UnsafeMutablePointer<UInt8>) -> KernelErrno? {
    unsafe KernelErrno(returned: cuffd_page_states(UInt64(range.start), range.byteCount, notes))
  }

  // MARK: Pages come

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

  /// Zeros also go over a page that has failed, which the kernel takes for a page that is there. What stands against that is a
  /// step as any other, because the page must not be taken for resident.
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

  /// Errors of a wake mean that nobody can be waiting there.
  func wake(_ range: AddressRange) { try? userfaultfd.uffd.wake(range) }

  var movesPages: Bool { userfaultfd.uffd.available.contains(.move) }

  func moveIn(_ range: AddressRange, from source: UInt) throws(ResolveError) {
    try userfaultfd.uffd.move(range, from: source)
  }

  // MARK: The memory goes

  var isLeftBehind: Bool { leftBehind.load(ordering: .acquiring) }

  func revokeAccess() -> Bool {
    for part in remains where cuffd_protect_none(UInt64(part.start), part.byteCount) < 0 {
      // This happens at the limit of mappings. Faults of the region go on to be reported, and each one fails.
      leftBehind.store(true, ordering: .releasing)
      // Where pages cannot be poisoned nobody has answered those who wait. They ask again.
      if !canFailPages { remains.forEach(wake) }
      return false
    }
    return true
  }

  func withdraw() {
    // Unregistering wakes the threads that wait, and the kernel would answer them with zeros: that is why access goes first.
    for part in remains {
      try? userfaultfd.uffd.unregister(part)
      wake(part)
    }
    for part in remains { _ = cuffd_discard(UInt64(part.start), part.byteCount) }
  }
}
