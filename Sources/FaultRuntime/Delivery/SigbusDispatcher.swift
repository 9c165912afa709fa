internal import CUFFD

/// Finds the region of a SIGBUS, in whichever runtime. There is one for the process, because there is one disposition of a
/// signal for the process; it is made with the first region that needs it, and stays.
final class SigbusDispatcher: Sendable {
  static let shared = SigbusDispatcher()

  /// The regions of all runtimes whose faulting threads serve themselves.
  let table = RegionTable(isForManyThreads: true)

  private init() {}

  /// Makes sure that this is the first to hear of SIGBUS. Takes a lock.
  func install() throws(HostCallError) {
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    let result = unsafe cuffd_sigbus_install(
      { context, address, isWrite in
        unsafe Unmanaged<SigbusDispatcher>.fromOpaque(context)._withUnsafeGuaranteedRef {
          $0.serve(UInt(address), isWrite: isWrite)
        }
      }, context)
    if let errno = KernelErrno(returned: result) { throw HostCallError(call: "sigaction", errno: errno) }
  }

  /// In the signal handler, on the thread that faulted. False where the signal is somebody else's.
  private func serve(_ address: UInt, isWrite: Bool) -> Bool {
    guard let handle = table.handle(containing: address) else { return false }
    return withExtendedLifetime(handle) {
      guard let server = unsafe handle.region.uncountedFaultingThreads else { return false }
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
}
