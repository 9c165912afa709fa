internal import CUFFD

/// Finds the region of a SIGBUS or SIGSEGV among the regions of all runtimes. The process has one dispatcher, because
/// it has one disposition for each signal. The dispatcher is made with the first region that needs it, and stays
/// until the process ends.
final class SignalDispatcher: Sendable {
  static let shared = SignalDispatcher()

  /// The regions of all runtimes whose faulting threads serve themselves.
  let table = RegionTable<SignalledRegion>(isForManyThreads: true)

  /// The regions of all event loops.
  private let ofEventLoops = RegionTable<Region>()

  /// The number of mappings that all regions with the delivery `sigsegv` may use together.
  let budget = MappingBudget()

  private init() {}

  /// Makes a region of an event loop known to all runtimes, so that none maps another region into a hole in it. If its
  /// failures are to be explained, a program that dies because it touches a failed page says so first. Takes a lock.
  func insert(_ region: Region) throws(HostCallError) {
    if region.explainsFailures { try install(CUFFD_SIGBUS) }
    ofEventLoops.insert(region)
  }

  func forget(_ region: Region) { ofEventLoops.remove(region) }

  /// Whether a byte of `range` lies in a region that the dispatcher knows. Lock-free.
  func isTaken(_ range: AddressRange) -> Bool { table.intersects(range) || ofEventLoops.intersects(range) }

  /// Explains the failure of a page, in the signal handler, before the program dies of the signal.
  private func lastWords(_ number: CInt, _ address: UInt) {
    guard let region = ofEventLoops.region(containing: address) ?? table.region(containing: address)?.region,
      region.explainsFailures, number == region.memory.failureSignal
    else { return }
    let page = region.pageSize.pageStart(of: address)
    _ = region.failures.explain(region.offset(of: page))
  }

  /// Makes this dispatcher the first handler of a signal, if it is not that already. Takes a lock.
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

  /// Begins to serve a region in signal handlers. Takes a lock.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `cannotStart` where the handler cannot be installed.
  func insert(_ region: Region, server: any FaultingThreadServer, signal: CInt) throws(FaultRuntimeError) {
    do {
      try install(signal)
    } catch {
      throw .cannotStart(error)
    }
    table.insert(SignalledRegion(region, server: server))
  }

  /// Ends the service of a region in signal handlers. Returns when no signal handler is searching the table for it
  /// any more.
  func remove(_ region: Region) {
    if let member = table.region(containing: region.range.start), member.region === region { table.remove(member) }
  }

  /// Serves a fault in the signal handler, on the thread that faulted. Returns false where the signal is not about a
  /// missing page of a region.
  private func serve(_ number: CInt, _ address: UInt, isWrite: Bool, outer: UInt) -> Bool {
    guard let handle = unsafe table.enterHandle(containing: address) else { return false }
    defer { unsafe TableHandle.leave(handle) }
    return unsafe handle._withUnsafeGuaranteedRef { handle in
      // The handle keeps the member alive, and the member keeps the region and the server alive. No reference is
      // counted.
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

  /// Fails a page because a provider that was asked for the page at `outer` has touched the failing page on the same
  /// thread.
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
