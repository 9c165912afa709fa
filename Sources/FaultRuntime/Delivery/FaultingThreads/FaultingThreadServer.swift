internal import CUFFD

/// The cause of a signal.
enum FaultVerdict {
  /// The page is missing, and the provider has to be asked for it.
  case missing
  /// The page has come meanwhile, so the access can be tried again.
  case isThere
  /// The page is missing, and the program has moved its memory to this place. What belongs there by its address is not
  /// what belongs to that memory.
  case moved
  /// The signal is not about a missing page. It is passed on to the handler that the process had before.
  case somebodyElses
}

/// A delivery in which a faulting thread answers its own fault in its signal handler. The work is the same whether
/// the kernel reports a missing page (SIGBUS) or memory without access (SIGSEGV). Nothing here allocates unless a
/// page fails.
protocol FaultingThreadServer: RegionServer {
  var counters: SharedCounters { get }

  /// The signal by which the kernel reports the faults of this delivery.
  var signal: CInt { get }

  /// Whether the program may have moved or unmapped memory. A request must not reach beyond its page then, into memory
  /// that is not the region's.
  var hasChanges: Bool { get }

  func judge(_ fault: PendingFault, of region: Region) -> FaultVerdict

  /// Asks the provider for a run, and puts the answer in place.
  func answer(_ run: borrowing FaultRun, _ fault: PendingFault) throws

  /// Fails a page without asking the provider. Returns true where the page is there after all.
  func fail(_ page: UInt, of region: Region, _ error: any Error) -> Bool
}

extension FaultingThreadServer {
  var group: ObjectIdentifier { SignalDispatcher.shared.served.id }

  /// Begins to serve a region in signal handlers. Takes a lock.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `cannotStart` where the handler cannot be installed.
  func insert(_ region: Region) throws(FaultRuntimeError) {
    FailureLog.rehearse()
    do {
      try SignalDispatcher.shared.install(signal)
    } catch {
      throw .cannotStart(error)
    }
    AddressSpace.ofThisProcess.regions.insert(region, isForManyThreads: true)
  }

  /// Ends the service of a region in signal handlers. Returns when no signal handler is searching the table for it
  /// any more.
  func remove(_ region: Region) {
    // A jump out of a fault of this region may have left something behind on this thread.
    cuffd_answers_clean_up()
    AddressSpace.ofThisProcess.regions.remove(region)
  }

  /// The body of `serve`, which each server has compiled for itself.
  @inline(__always)
  func serveHere(_ fault: PendingFault, of region: Region, signal number: CInt, _ nesting: FaultNesting) -> Bool {
    guard number == signal else { return false }
    if hasChanges, nesting.stackRoom < StackNeed.ofSimpleAnswer { cuffd_end_without_stack() }
    switch judge(fault, of: region) {
    case .somebodyElses: return false
    case .isThere: return true
    case .moved: return failMoved(fault.page, of: region)
    case .missing: break
    }
    if nesting.stackRoom < region.stackNeed { cuffd_end_without_stack() }
    return nesting.permitsAnswer ? answer(fault, of: region) : fail(fault.page, of: region, nesting)
  }

  @inline(never)
  private func failMoved(_ page: UInt, of region: Region) -> Bool {
    counters.countFault()
    return fail(page, of: region, ResolutionError.memoryMoved)
  }

  /// Fails a page because a provider that is asked on this thread has touched it, and answering it would never end.
  @inline(never)
  private func fail(_ page: UInt, of region: Region, _ nesting: FaultNesting) -> Bool {
    if nesting.tooMany > 0 { return fail(page, of: region, ResolutionError.nestedTooDeeply(nesting.tooMany)) }
    guard let asked = AddressSpace.ofThisProcess.regions.region(containing: nesting.outerPage) else { return false }
    let start = asked.offset(of: nesting.outerPage)
    let deadlock = SelfDeadlock(
      region: asked.name, range: start..<(start + asked.pageSize.bytes), touchedRegion: region.name,
      touchedOffset: region.offset(of: page))
    return fail(page, of: region, ResolutionError.deadlock(deadlock))
  }

  /// Answers a fault on a missing page. Returns false where the access has to fail.
  @inline(__always)
  private func answer(_ fault: PendingFault, of region: Region) -> Bool {
    // The table's handle keeps the region alive. Another count of references would make all faulting threads write to
    // one place in memory. For that reason the run gets a reference that was never counted, which is taken back
    // below.
    var run = FaultRun(region: unsafe Unmanaged.passUnretained(region).takeRetainedValue(), fault: fault, index: 0)
    let isAlone = hasChanges
    // Choosing between two ways to make the run would count a reference after all.
    if isAlone { run.keepOnlyPage(of: fault) }
    let isServed = serve(&run, fault, isAlone: isAlone)
    _ = unsafe Unmanaged.passRetained(run.region)
    return isServed
  }

  @inline(__always)
  private func serve(_ run: inout FaultRun, _ fault: PendingFault, isAlone: Bool) -> Bool {
    counters.countFault()
    if run.region.isClosing {
      counters.countRequests(-1)
      return fail(fault.page, of: run.region, ResolutionError.regionClosed)
    }
    if !isAlone { run.widen() }
    do {
      try answer(run, fault)
      return true
    } catch is ForeignMemoryError {
      return false
    } catch {
      if cuffd_stack_room() < StackNeed.ofFailure { cuffd_end_without_stack() }
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
      // No thread withdraws a request of a faulting thread, so the page fails here as after every other error.
      return fail(fault.page, of: region, error)
    }
    return isServed
  }
}
