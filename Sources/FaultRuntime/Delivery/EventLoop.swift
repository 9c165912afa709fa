internal import CUFFD

/// One handler thread with a userfaultfd of its own: it waits in epoll, reads faults in batches, and answers them.
///
/// Regions are dealt out to handlers, so a region's faults are all served by one thread: nothing about a fault needs a lock.
final class EventLoop: Sendable {
  let uffd: Userfaultfd
  let table: RegionTable
  let pageSize: PageSize
  let counters = HandlerCounters()
  let onFailure: (@Sendable (PageFailure) -> Void)?
  let deferralDeadline: UInt64
  /// How often a resolution that gets `EAGAIN` reads on and tries again at once, before it is put off for a millisecond.
  let immediateRetries: Int

  /// Which of the runtime's handlers this is.
  private let number: Int
  private let batchCapacity: Int
  private let closeDeadline: UInt64
  private let epoll: Epoll
  private let wakeup: WakeDescriptor
  private let thread = Guarded<FaultThread?>(nil)
  private let control = Guarded(Control())

  /// What other threads ask of the handler thread; it looks here when its eventfd says so.
  private struct Control: Sendable {
    var isStopping = false
    /// Signalled when every message that was queued before has been served.
    var drains: [OneShotEvent] = []
    var prefetches: [PrefetchJob] = []
  }

  private enum Token {
    static let faults: UInt32 = 0
    static let wakeup: UInt32 = 1
  }

  /// Opens a descriptor and starts the thread.
  init(
    configuration: FaultRuntimeConfiguration, table: RegionTable, pageSize: PageSize, number: Int
  ) throws(FaultRuntimeError) {
    do {
      uffd = try Userfaultfd.open(
        configuration.handlerKinds, wanting: Self.wantedFeatures.union(configuration.additionalFeatures))
    } catch {
      throw .unavailable(error)
    }
    self.table = table
    self.number = number
    self.pageSize = pageSize
    onFailure = configuration.onFailure
    deferralDeadline = configuration.resolveDeadline.clampedNanoseconds
    immediateRetries = configuration.immediateRetries
    closeDeadline = configuration.closeDeadline.clampedNanoseconds
    batchCapacity = configuration.batchCapacity
    do {
      epoll = try Epoll()
      wakeup = try WakeDescriptor()
      try epoll.watch(uffd.descriptor, token: Token.faults)
      try epoll.watch(wakeup.descriptor, token: Token.wakeup)
      let started = try FaultThread(name: "fault-handler\(number)", stackByteCount: Self.stackByteCount) {
        [self] in run()
      }
      thread.withLock { $0 = started }
    } catch {
      throw .cannotStart(error)
    }
  }

  /// Nothing here asks for events: fork, mremap and the like are not reported.
  private static let wantedFeatures: UserfaultfdFeatures = .poison

  private static let drainReads = 64

  /// Virtual; a provider decides how much of it becomes memory.
  private static let stackByteCount = 1 << 20

  private var isOnHandlerThread: Bool {
    thread.withLock { $0 }?.isCurrent ?? false
  }

  // MARK: Control, on any thread

  /// Begins to serve faults of a region.
  func open(_ region: RegionCore) throws(FaultRuntimeError) {
    table.insert(region)
    do {
      try uffd.register(region.range, mode: .missing)
    } catch {
      table.remove(region)
      throw .cannotRegister(region, error.errno)
    }
  }

  /// Ends the service of a region whose closing has begun, so that nobody can read a page that no provider gave.
  func close(_ region: RegionCore) {
    // The handler poisons what it still finds in its queue for a region that is closing.
    drain()
    region.withdraw(from: table, uffd)
  }

  /// Waits until the handler has served everything that was queued, or until the deadline.
  private func drain() {
    guard !isOnHandlerThread else { return }
    let drained = OneShotEvent()
    control.withLock { $0.drains.append(drained) }
    wakeup.signal()
    _ = drained.wait(nanoseconds: closeDeadline)
  }

  /// Fills a range between the faults, which go first; returns when it is done or has failed.
  ///
  /// It waits as long as the provider takes: a prefetch is as slow as its source.
  func prefetch(_ job: PrefetchJob) throws(FaultRuntimeError) {
    guard !isOnHandlerThread else { throw .prefetchFromProvider(job.region) }
    control.withLock { $0.prefetches.append(job) }
    wakeup.signal()
    while !job.done.wait(nanoseconds: closeDeadline) {}
  }

  /// Ends the thread. Every region has been closed before.
  func stop() {
    control.withLock { $0.isStopping = true }
    wakeup.signal()
    guard let thread = thread.withLock({ $0 }) else { return }
    if thread.isCurrent { thread.detach() } else { thread.join() }
  }

  // MARK: Service, on the handler thread

  private func run() {
    var inbox = FaultInbox(readCapacity: batchCapacity, pageSize: pageSize)
    var batch = FaultInbox.batch(readCapacity: batchCapacity)
    var resolver = Resolver(loop: self, capacity: batchCapacity)
    var filler = BulkFiller(pageSize: pageSize)
    var jobs: [PrefetchJob] = []
    do {
      while true {
        let isBusy = !inbox.isEmpty || !jobs.isEmpty
        let ready = try epoll.wait(milliseconds: isBusy ? 0 : resolver.deferred.count == 0 ? -1 : 1)
        if ready.hasError(Token.faults) { fatalError("FaultRuntime: the userfaultfd reports an error") }
        if ready.hasInput(Token.faults), inbox.hasRoom { _ = try inbox.read(from: uffd, counting: counters) }
        if resolver.deferred.count > 0 { resolver.takeDeferred(into: &inbox) }
        try serve(&inbox, &batch, with: &resolver)
        if ready.hasInput(Token.wakeup), try obey(&inbox, &batch, &resolver, &jobs) { return }
        // Only when no fault is waiting: demand goes first.
        if !jobs.isEmpty, !ready.hasInput(Token.faults) { work(&jobs, &filler) }
      }
    } catch {
      // Nobody would serve the faults that come; a program that hangs is worse than one that says why it ended.
      fatalError("FaultRuntime: the handler thread cannot go on: \(error)")
    }
  }

  /// Answers everything in the inbox; `batch` is empty before and after.
  @inline(__always)
  private func serve(
    _ inbox: inout FaultInbox, _ batch: inout FaultBatch, with resolver: inout Resolver
  ) throws(UserfaultfdError) {
    inbox.take(for: &batch)
    var index = 0
    while index < batch.count {
      let fault = batch[index]
      guard let region = table.region(containing: fault.page), region.handler == number else {
        // The region was closed since, and its addresses may belong to another handler's. Whoever still waits meets what is there now.
        try? uffd.wake(AddressRange(start: fault.page, byteCount: pageSize.bytes))
        index += 1
        continue
      }
      var run = FaultRun(region: region, fault: fault, index: index)
      index += 1
      while index < batch.count, run.absorb(batch[index]) { index += 1 }
      run.widen()
      try resolver.serve(run, in: batch, readingOnInto: &inbox)
    }
    batch.removeAll()
  }

  /// One step of the oldest job.
  private func work(_ jobs: inout [PrefetchJob], _ filler: inout BulkFiller) {
    let job = jobs[0]
    counters.countRequest()
    if job.step(&filler, uffd, forbidden: table, counting: { counters.countBytesFilled($0) }) {
      jobs.removeFirst()
      job.done.signal()
    }
  }

  /// Does what other threads have asked for. True where the thread shall end.
  private func obey(
    _ inbox: inout FaultInbox, _ batch: inout FaultBatch, _ resolver: inout Resolver, _ jobs: inout [PrefetchJob]
  ) throws(UserfaultfdError) -> Bool {
    wakeup.clear()
    let wishes = control.withLock { control in
      defer {
        control.drains = []
        control.prefetches = []
      }
      return control
    }
    jobs += wishes.prefetches
    guard !wishes.drains.isEmpty || wishes.isStopping else { return false }
    // What was queued before is read first; a read that was not filled has seen the end of it. The bound is for a crowd
    // of threads that fills every read: closing then relies on what it does after draining.
    for _ in 0..<Self.drainReads {
      let count = try inbox.read(from: uffd, counting: counters)
      try serve(&inbox, &batch, with: &resolver)
      if count < batchCapacity { break }
    }
    for drain in wishes.drains { drain.signal() }
    return wishes.isStopping
  }
}

extension Duration {
  /// Nanoseconds, at least 0 and at most about 292 years.
  var clampedNanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    guard seconds < Int64.max / 1_000_000_000 else { return UInt64(Int64.max) }
    return UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
  }
}
