/// What a signal may be about.
enum FaultVerdict {
  /// A page that the provider has to be asked for.
  case missing
  /// The page came meanwhile: the access can be tried again.
  case isThere
  /// No missing page: the signal goes on to whoever had it before.
  case somebodyElses
}

/// What a faulting thread does in its signal handler. It is the same whether the kernel told it of a missing page (SIGBUS) or of
/// memory without access (SIGSEGV). Nothing here allocates unless a page fails.
protocol FaultingThreadServer: RegionServer {
  var counters: SharedCounters { get }

  /// The signal that tells of this delivery's faults.
  var signal: CInt { get }

  func judge(_ fault: PendingFault, of region: Region) -> FaultVerdict

  /// Asks the provider for a run, and puts the answer in place.
  func answer(_ run: borrowing FaultRun, _ fault: PendingFault) throws

  /// Fails a page without asking anybody. Returns true where it is there after all.
  func fail(_ page: UInt, of region: Region, _ error: any Error) -> Bool

  /// Answers a fault that `judge` has found to be of a missing page. Returns false where the access has to fail: the signal then
  /// goes on to whoever had it before.
  func serve(_ fault: PendingFault, of region: Region) -> Bool
}

extension FaultingThreadServer {
  /// The body of `serve`, which each server has compiled for itself.
  @inline(__always)
  func serveHere(_ fault: PendingFault, of region: Region) -> Bool {
    // The table's handle holds the region. Counting it once more would have all threads that fault write to one place, so the run
    // gets a reference that was never counted, and it is given back below.
    var run = FaultRun(region: unsafe Unmanaged.passUnretained(region).takeRetainedValue(), fault: fault, index: 0)
    let isServed = serve(&run, fault)
    _ = unsafe Unmanaged.passRetained(run.region)
    return isServed
  }

  @inline(__always)
  private func serve(_ run: inout FaultRun, _ fault: PendingFault) -> Bool {
    counters.countFault()
    if run.region.isClosing {
      counters.countRequests(-1)
      return fail(fault.page, of: run.region, ResolutionError.regionClosed)
    }
    run.widen()
    do {
      try answer(run, fault)
      return true
    } catch {
      return narrow(run, fault, error)
    }
  }

  @inline(never)
  private func narrow(_ run: borrowing FaultRun, _ fault: PendingFault, _ error: any Error) -> Bool {
    let region = run.region
    var isServed = true
    do {
      try FaultRun.narrow(
        error, of: run, to: CollectionOfOne(fault.page), with: &isServed, until: { region.isClosing },
        ask: { _, _ in
          counters.countRequests()
          try answer(FaultRun(region: region, onlyPageOf: fault, index: 0), fault)
        },
        giveUp: { isServed, page, error in isServed = fail(page, of: region, error) })
    } catch {
      // Nobody withdraws a request of a faulting thread, so this is an answer as any other.
      return fail(fault.page, of: region, error)
    }
    return isServed
  }
}
