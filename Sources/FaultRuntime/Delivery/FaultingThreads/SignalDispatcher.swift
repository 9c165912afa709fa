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
    var calls = unsafe cuffd_fault_calls(
      context: Unmanaged.passUnretained(self).toOpaque(),
      serve: { context, fault in
        unsafe Unmanaged<SignalDispatcher>.fromOpaque(context)._withUnsafeGuaranteedRef {
          unsafe $0.serve(fault.pointee)
        }
      },
      let_go: { _, handle, loans, loanCount in
        // The memory comes first, because the handle keeps the pool alive.
        for index in 0..<Int(loanCount) { unsafe StagingPool.takeBack(loans[index]) }
        if let handle = unsafe handle { unsafe TableHandle<Region>.leave(.fromOpaque(handle)) }
      })
    let result = unsafe cuffd_signal_install(number, &calls)
    guard let errno = KernelErrno(returned: result) else { return }
    if errno == .resourceTemporarilyUnavailable {
      throw HostCallError(call: "pthread_key_create", errno: errno, shortage: .threadKeys)
    }
    throw HostCallError(call: "sigaction", errno: errno)
  }

  /// Serves a fault in the signal handler, on the thread that faulted. Returns false where the signal is not about a
  /// missing page of a region.
  private func serve(_ fault: cuffd_fault) -> Bool {
    let address = unsafe UInt(fault.address)
    // Regions that are not served in signal handlers have no handle.
    guard let handle = unsafe regions.enterHandle(containing: address) else { return false }
    // A handler of the program may leave this function by `siglongjmp`. The answer has a note of the handle for that
    // case.
    if let answer = unsafe fault.answer { unsafe cuffd_answer_set_region(answer, handle.toOpaque()) }
    defer {
      if let answer = unsafe fault.answer { unsafe cuffd_answer_set_region(answer, nil) }
      unsafe TableHandle.leave(handle)
    }
    return unsafe handle._withUnsafeGuaranteedRef { handle in
      // The handle keeps the region alive, and the region keeps the server alive. No reference is counted.
      unsafe handle.member._withUnsafeGuaranteedRef { region in
        let page = region.pageSize.pageStart(of: address)
        let nesting = unsafe FaultNesting(
          outerPage: UInt(fault.outer), tooMany: Int(fault.too_many), stackRoom: fault.stack_room)
        return unsafe region.server.serve(
          PendingFault(page: page, isWrite: fault.is_write), of: region, signal: fault.number, nesting)
      }
    }
  }
}
