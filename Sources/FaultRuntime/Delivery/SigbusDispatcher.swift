internal import CUFFD

/// Finds the region of a SIGBUS, in whichever runtime. There is one for the process, because there is one disposition of a
/// signal for the process; it is made with the first region that needs it, and stays.
final class SigbusDispatcher: Sendable {
  static let shared = SigbusDispatcher()

  /// The regions of all runtimes whose faulting threads serve themselves.
  let table = RegionTable(isForManyThreads: true)

  /// The regions whose failures are explained.
  private let explained = RegionTable()

  private init() {}

  /// Has the end of a program that touches a failed page of `region` explained. Takes a lock.
  func explain(_ region: RegionCore) throws(HostCallError) {
    try install()
    explained.insert(region)
  }

  func forget(_ region: RegionCore) { explained.remove(region) }

  /// Whether a byte of `range` lies in a region that is known here. Lock-free.
  func isTaken(_ range: AddressRange) -> Bool { table.intersects(range) || explained.intersects(range) }

  /// In the signal handler, when nothing is left but the default action.
  private func lastWords(_ address: UInt) {
    guard let region = explained.region(containing: address) ?? table.region(containing: address) else { return }
    let page = region.pageSize.pageStart(of: address)
    _ = region.failures.explain(region.offset(of: page))
  }

  /// Makes sure that this is the first to hear of SIGBUS. Takes a lock.
  func install() throws(HostCallError) {
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    let result = unsafe cuffd_sigbus_install(
      { context, address, isWrite, outer in
        unsafe Unmanaged<SigbusDispatcher>.fromOpaque(context)._withUnsafeGuaranteedRef {
          $0.serve(UInt(address), isWrite: isWrite, outer: UInt(outer))
        }
      },
      { context, address in
        unsafe Unmanaged<SigbusDispatcher>.fromOpaque(context)._withUnsafeGuaranteedRef { $0.lastWords(UInt(address)) }
      }, context)
    if let errno = KernelErrno(returned: result) { throw HostCallError(call: "sigaction", errno: errno) }
  }

  /// In the signal handler, on the thread that faulted. False where the signal is somebody else's.
  private func serve(_ address: UInt, isWrite: Bool, outer: UInt) -> Bool {
    guard let handle = table.handle(containing: address) else { return false }
    return withExtendedLifetime(handle) {
      guard let server = unsafe handle.region.uncountedFaultingThreads else { return false }
      if outer != 0 { return fail(address, of: handle.region, touchedFrom: outer) }
      let fault = PendingFault(page: handle.region.pageSize.pageStart(of: address), isWrite: isWrite)
      // The handle holds the region, and that the server. Counting either would have all threads that fault write to one
      // place, so the run gets a reference that was never counted, and it is given back below.
      var run = FaultRun(
        region: unsafe Unmanaged.passUnretained(handle.region).takeRetainedValue(), fault: fault, index: 0)
      let isServed = unsafe server._withUnsafeGuaranteedRef { $0.serve(&run, fault) }
      _ = unsafe Unmanaged.passRetained(run.region)
      return isServed
    }
  }

  /// A provider that was asked for the page `outer` came back to a page that this thread is answering.
  @inline(never)
  private func fail(_ address: UInt, of region: RegionCore, touchedFrom outer: UInt) -> Bool {
    guard let server = region.faultingThreads, let asked = table.region(containing: outer) else { return false }
    let page = region.pageSize.pageStart(of: address)
    let start = asked.offset(of: outer)
    let deadlock = SelfDeadlock(
      region: asked.name, range: start..<(start + asked.pageSize.bytes), touchedRegion: region.name,
      touchedOffset: region.offset(of: page))
    return server.fail(page, of: region, ResolutionError.deadlock(deadlock))
  }
}
