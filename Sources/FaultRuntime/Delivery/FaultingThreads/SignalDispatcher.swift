internal import CUFFD

/// Finds the region of a SIGBUS or SIGSEGV among the regions of all runtimes. The process has one dispatcher, because
/// it has one disposition for each signal. The dispatcher is made with the first region that needs it, and stays
/// until the process ends.
final class SignalDispatcher: Sendable {
  static let shared = SignalDispatcher()

  private let regions = AddressSpace.ofThisProcess.regions

  private init() {}

  /// The regions whose faults are served in signal handlers.
  var served: RegionGroup { RegionGroup(table: regions, id: ObjectIdentifier(self)) }

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

  /// Explains the failure of a page, in the signal handler, before the program dies of the signal.
  private func lastWords(_ number: CInt, _ address: UInt) {
    guard let region = regions.region(containing: address), region.explainsFailures,
      number == region.memory.failureSignal
    else { return }
    let page = region.pageSize.pageStart(of: address)
    _ = region.failures.explain(region.offset(of: page))
  }

  /// Serves a fault in the signal handler, on the thread that faulted. Returns false where the signal is not about a
  /// missing page of a region.
  private func serve(_ number: CInt, _ address: UInt, isWrite: Bool, outer: UInt) -> Bool {
    // Regions that are not served in signal handlers have no handle.
    guard let handle = unsafe regions.enterHandle(containing: address) else { return false }
    defer { unsafe TableHandle.leave(handle) }
    return unsafe handle._withUnsafeGuaranteedRef { handle in
      // The handle keeps the region alive, and the region keeps the server alive. No reference is counted.
      unsafe handle.member._withUnsafeGuaranteedRef { region in
        let fault = PendingFault(page: region.pageSize.pageStart(of: address), isWrite: isWrite)
        return region.server.serve(fault, of: region, signal: number, askedAt: outer)
      }
    }
  }
}
