/// What a signal may be about.
enum FaultVerdict {
  /// A page that the provider has to be asked for.
  case missing
  /// The page came meanwhile: the access can be tried again.
  case isThere
  /// No missing page: the signal goes on to whoever had it before.
  case somebodyElses
}

/// What a faulting thread does in its signal handler, the same whether the kernel told it of a missing page (SIGBUS) or of memory
/// without access (SIGSEGV). Nothing here allocates unless a page fails.
protocol FaultingThreadServer: AnyObject, Sendable {
  var counters: SharedCounters { get }

  func judge(_ fault: PendingFault, of region: Region) -> FaultVerdict

  /// Asks the provider for a run, and puts the answer in place.
  func answer(_ run: borrowing FaultRun, _ fault: PendingFault) throws

  /// Fails a page without asking anybody. True where it is there after all.
  func fail(_ page: UInt, of region: Region, _ error: any Error) -> Bool
}

extension FaultingThreadServer {
  /// Answers a fault. False where the access has to fail: the signal then goes on to whoever had it before.
  @inline(__always)
  func serve(_ run: inout FaultRun, _ fault: PendingFault) -> Bool {
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

  /// An error of a request that spans pages says little about the one that was touched: ask again for that.
  private func narrow(_ run: borrowing FaultRun, _ fault: PendingFault, _ error: any Error) -> Bool {
    let region = run.region
    var error = error
    var attempts = RetryAttempts(region.retry)
    let isFirstOfPage = !run.isOnePage
    if isFirstOfPage { run.shrinkNext(at: run.start + region.requestUnit) }
    var asksAgain = isFirstOfPage || attempts.mayGoOn(after: error, until: { region.isClosing })
    while asksAgain {
      counters.countRequests()
      do {
        try answer(FaultRun(region: region, onlyPageOf: fault, index: 0), fault)
        return true
      } catch let latest {
        error = latest
      }
      asksAgain = attempts.mayGoOn(after: error, until: { region.isClosing })
    }
    return fail(fault.page, of: region, error)
  }
}
