internal import CUFFD

/// Finds the region of a SIGBUS, in whichever runtime. There is one for the process, because there is one disposition of a
/// signal for the process; it is made with the first region that needs it, and stays.
final class SigbusDispatcher: Sendable {
  static let shared = SigbusDispatcher()

  /// The regions of all runtimes whose faulting threads serve themselves.
  let table = RegionTable()

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
    guard let region = table.region(containing: address), let server = unsafe region.uncountedFaultingThreads else {
      return false
    }
    let fault = PendingFault(page: region.pageSize.pageStart(of: address), isWrite: isWrite)
    // It holds the region, and that the server: counting either once more would have all threads that fault write to one place.
    var run = FaultRun(region: consume region, fault: fault, index: 0)
    return unsafe server._withUnsafeGuaranteedRef { $0.serve(&run, fault) }
  }
}
