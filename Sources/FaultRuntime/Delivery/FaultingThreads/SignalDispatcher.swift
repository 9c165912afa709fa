internal import CUFFD

/// Finds the region of a SIGBUS or SIGSEGV, in whichever runtime. There is one for the process, because there is one
/// disposition of a signal for the process; it is made with the first region that needs it, and stays.
final class SignalDispatcher: Sendable {
  static let shared = SignalDispatcher()

  /// The regions of all runtimes whose faulting threads serve themselves.
  let table = RegionTable<SignalledRegion>(isForManyThreads: true)

  /// The regions of event loops whose failures are explained.
  private let explained = RegionTable<Region>()

  /// What all regions may cost that are guarded by their protection.
  let budget = MappingBudget()

  private init() {}

  /// Has the end of a program that touches a failed page of `region` explained. Takes a lock.
  func explain(_ region: Region) throws(HostCallError) {
    try install(CUFFD_SIGBUS)
    explained.insert(region)
  }

  func forget(_ region: Region) { explained.remove(region) }

  /// Whether a byte of `range` lies in a region that is known here. Lock-free.
  func isTaken(_ range: AddressRange) -> Bool { table.intersects(range) || explained.intersects(range) }

  /// In the signal handler, when nothing is left but the default action.
  private func lastWords(_ number: CInt, _ address: UInt) {
    guard let region = explained.region(containing: address) ?? table.region(containing: address)?.region,
      region.explainsFailures, number == region.memory.failureSignal
    else { return }
    let page = region.pageSize.pageStart(of: address)
    _ = region.failures.explain(region.offset(of: page))
  }

  /// Makes sure that this is the first to hear of a signal. Takes a lock.
  func install(_ number: CInt) throws(HostCallError) {
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    let result = unsafe cuffd_signal_install(
      number,
      { context, number, address, isWrite, outer in
        unsafe Unmanaged<SignalDispatcher>.fromOpaque(context)._withUnsafeGuaranteedRef {
          $0.serve(number, UInt(address), isWrite: isWrite, outer: UInt(outer))
        }
      },
      { context, number, address in
        unsafe Unmanaged<SignalDispatcher>.fromOpaque(context)._withUnsafeGuaranteedRef {
          $0.lastWords(number, UInt(address))
        }
      }, context)
    if let errno = KernelErrno(returned: result) { throw HostCallError(call: "sigaction", errno: errno) }
  }

  /// Serves a region in signal handlers from now on. Takes a lock.
  func insert(_ region: Region, server: any FaultingThreadServer, signal: CInt) throws(FaultRuntimeError) {
    do {
      try install(signal)
    } catch {
      throw .cannotStart(error)
    }
    table.insert(SignalledRegion(region, server: server))
  }

  /// Ends that, and returns when no signal handler is looking at the region any more.
  func remove(_ region: Region) {
    if let member = table.region(containing: region.range.start), member.region === region { table.remove(member) }
  }

  /// Serves a fault in the signal handler, on the thread that faulted. Returns false where the signal is somebody else's.
  private func serve(_ number: CInt, _ address: UInt, isWrite: Bool, outer: UInt) -> Bool {
    guard let handle = unsafe table.enterHandle(containing: address) else { return false }
    defer { unsafe TableHandle.leave(handle) }
    return unsafe handle._withUnsafeGuaranteedRef { handle in
      // The handle holds the member, and the member holds the rest: nothing of it is counted.
      unsafe handle.member._withUnsafeGuaranteedRef { member in
        serve(number, address, of: member.region, isWrite: isWrite, outer: outer, by: member.server)
      }
    }
  }

  @inline(__always)
  private func serve(
    _ number: CInt, _ address: UInt, of region: Region, isWrite: Bool, outer: UInt, by server: any FaultingThreadServer
  ) -> Bool {
    guard number == server.signal else { return false }
    let fault = PendingFault(page: region.pageSize.pageStart(of: address), isWrite: isWrite)
    switch server.judge(fault, of: region) {
    case .somebodyElses: return false
    case .isThere: return true
    case .missing: break
    }
    if outer != 0 { return fail(fault.page, of: region, touchedFrom: outer, by: server) }
    return server.serve(fault, of: region)
  }

  /// Fails a page because a provider that was asked for the page `outer` came back to it on the same thread.
  @inline(never)
  private func fail(
    _ page: UInt, of region: Region, touchedFrom outer: UInt, by server: any FaultingThreadServer
  ) -> Bool {
    guard let asked = table.region(containing: outer)?.region else { return false }
    let start = asked.offset(of: outer)
    let deadlock = SelfDeadlock(
      region: asked.name, range: start..<(start + asked.pageSize.bytes), touchedRegion: region.name,
      touchedOffset: region.offset(of: page))
    return server.fail(page, of: region, ResolutionError.deadlock(deadlock))
  }
}
