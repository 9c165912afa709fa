internal import CUFFD

/// The pieces of a handler's regions that are being fetched by the pool: each page is in one of them at most, however many
/// threads wait for it, and whether it was a fault or a prefetch that came first.
final class RequestsInFlight: Sendable {
  // Safe to share: behind the lock of the monitor.
  private struct State: ~Copyable {
    var active: [PoolRequest] = []
    var free: [PoolRequest] = []
    var reports = PresentReports()

    /// Makes room for what a crowd of threads asks for, so that faults allocate nothing.
    init(premade: Int) {
      active.reserveCapacity(64)
      free.reserveCapacity(64)
      for _ in 0..<premade { free.append(PoolRequest()) }
    }

    /// The part of `bounds` around `offset` that nobody fetches.
    func gap(around offset: Int, of region: Region, in bounds: Range<Int>) -> Range<Int> {
      var low = bounds.lowerBound
      var high = bounds.upperBound
      for request in active where request.region === region {
        if request.end <= offset { low = max(low, request.end) }
        if request.start > offset { high = min(high, request.start) }
      }
      return low..<high
    }

    /// The thread that has to end its work before a request is answered; 0 where that is not known.
    func server(of request: PoolRequest) -> UInt32 {
      request.runner != 0 ? request.runner : request.region.map { onlyThread(of: $0) } ?? 0
    }

    /// The thread that asks the provider of a region which permits one only; 0 where several may, or none does.
    func onlyThread(of region: Region) -> UInt32 {
      guard !region.mayBeAskedConcurrently else { return 0 }
      return active.first { $0.region === region && $0.runner != 0 }?.runner ?? 0
    }

    /// The request that `thread` works on, where another thread, for which it waits, cannot go on before that one is answered.
    func deadlock(of thread: UInt32, waitingFor server: UInt32) -> PoolRequest? {
      var runner = server
      for _ in 0...active.count {
        if runner == 0 { return nil }
        if runner == thread { return active.first { $0.runner == thread } }
        // A page that has come since keeps nobody.
        let next = active.first { other in
          other.askers.contains { $0.thread == runner && !other.hasPage($0.page) }
        }
        guard let next else { return nil }
        runner = self.server(of: next)
      }
      return nil
    }

    mutating func begin(_ region: Region, _ range: Range<Int>, neededEnd: Int, isWrite: Bool) -> PoolRequest {
      let request = free.popLast() ?? PoolRequest()
      request.region = region
      request.start = range.lowerBound
      request.end = range.upperBound
      request.neededEnd = min(neededEnd, range.upperBound)
      request.isWrite = isWrite
      request.permit.renew(expires: region.deadline != 0)
      active.append(request)
      return request
    }
  }

  private let state: Monitor<State>

  /// - Parameter premade: how many requests there are from the start. As long as no more than these are under way, to
  ///   begin one allocates nothing. More are made when they are needed.
  init(premade: Int = 8) { state = Monitor(State(premade: premade), holdsSignals: true) }

  /// Takes the faults of a run in: those on pages that are being fetched wait for that, and the others become requests,
  /// which `submit` gets. `wake` gets pages that have arrived since the fault was read, `resubmit` is as in `finish`, and
  /// `fail` gets pages that their threads would wait for in vain.
  func admit(
    _ run: borrowing FaultRun, _ batch: borrowing FaultBatch, submit: (PoolRequest) -> Void, wake: (UInt) -> Void,
    resubmit: (PoolPrefetch) -> Void, fail: (UInt, SelfDeadlock) -> Void
  ) {
    let region = run.region
    for index in run.faults {
      let fault = batch[index]
      let offset = region.offset(of: fault.page)
      let bounds = run.start..<run.end
      let neededEnd = run.neededEnd
      var deadlock: SelfDeadlock?
      let request = state.withLock { state -> PoolRequest? in
        if let request = state.active.first(where: { $0.covers(offset, of: region) }) {
          var fault = fault
          if fault.asker != 0, let own = state.deadlock(of: fault.asker, waitingFor: state.server(of: request)) {
            // It goes on with an error.
            fault.asker = 0
            deadlock = own.deadlock(touching: offset, of: region)
          }
          request.await(fault)
          return nil
        }
        if fault.asker != 0, let own = state.deadlock(of: fault.asker, waitingFor: state.onlyThread(of: region)) {
          deadlock = own.deadlock(touching: offset, of: region)
          return nil
        }
        let gap = state.gap(around: offset, of: region, in: bounds)
        let request = state.begin(region, gap, neededEnd: max(neededEnd, offset + 1), isWrite: fault.isWrite)
        request.await(fault)
        return request
      }
      if let deadlock { fail(fault.page, deadlock) }
      guard let request else { continue }
      // It may have come since the fault was read. Looked at only now, when nobody else can be filling it.
      if region.memory.isThere(fault.page), isCredible(fault.page) {
        finish(request, filled: 0..<0, handled: 0, known: 0, wake: wake, resubmit: resubmit)
      } else {
        submit(request)
      }
    }
  }

  /// Whether it is believed that a page is there on which a thread faults: it may have come since. Not for ever.
  private func isCredible(_ page: UInt) -> Bool {
    let now = cuffd_monotonic_nanoseconds()
    return state.withLock { state in
      guard state.reports.count(for: page, now: now) < ResolutionStep.presentLimit else {
        state.reports.forget(page)
        return false
      }
      state.reports.add(page, now: now)
      return true
    }
  }

  /// Has staging memory for the first requests: at the limit of mappings there is none to be had.
  func reserveStaging(_ pageSize: PageSize) {
    state.withLock { state in
      for request in state.free { request.staging.reserve(for: pageSize) }
    }
  }

  // MARK: For a thread that faulted, and waits for the pool itself

  /// A request that a thread waits for, and which of its uses that is.
  struct Ticket {
    fileprivate let request: PoolRequest
    fileprivate let generation: Int
  }

  /// Takes one fault in, as ``admit(_:_:submit:wake:resubmit:fail:)`` does with many, and returns what to wait for: nil
  /// if the page has come since the fault. `submit` gets the request if nobody was fetching the page, and `resubmit` is
  /// as in `finish`.
  ///
  /// The caller may be in a signal handler. It allocates nothing as long as the requests that were made at the start
  /// are enough.
  func admit(
    _ fault: PendingFault, of run: borrowing FaultRun, submit: (PoolRequest) -> Void, resubmit: (PoolPrefetch) -> Void
  ) -> Ticket? {
    let region = run.region
    let offset = region.offset(of: fault.page)
    let bounds = run.start..<run.end
    let neededEnd = run.neededEnd
    let (request, isNew, generation) = state.withLock { state in
      if let request = state.active.first(where: { $0.covers(offset, of: region) }) {
        // A thread that finds no room in the list still waits. If its page has not come at the end, it faults again.
        if request.hasRoomToWait { request.await(fault) }
        return (request, false, request.generation)
      }
      let gap = state.gap(around: offset, of: region, in: bounds)
      let request = state.begin(region, gap, neededEnd: max(neededEnd, offset + 1), isWrite: fault.isWrite)
      request.await(fault)
      return (request, true, request.generation)
    }
    if isNew {
      // Only now can nobody else be filling the page.
      if region.memory.isThere(fault.page) {
        finish(request, filled: 0..<0, handled: 0, known: 0, wake: { _ in }, resubmit: resubmit)
        return nil
      }
      submit(request)
    }
    return Ticket(request: request, generation: generation)
  }

  /// Waits until a request has ended, or until the time is up. Returns whether it has ended.
  func wait(for ticket: Ticket, nanoseconds: UInt64) -> Bool {
    state.wait(nanoseconds: nanoseconds) { _ in
      ticket.request.generation != ticket.generation ? true : nil
    } ?? false
  }

  // MARK: Prefetch

  /// Claims what is missing from `offset` on, for a prefetch. Nil where that is being fetched already: the job is then
  /// submitted again when it has arrived.
  func claim(for job: PoolPrefetch, from offset: Int, to end: Int) -> PoolRequest? {
    state.withLock { state in
      if let request = state.active.first(where: { $0.covers(offset, of: job.region) }) {
        request.followers.append(job)
        return nil
      }
      let gap = state.gap(around: offset, of: job.region, in: offset..<end)
      let request = state.begin(job.region, gap, neededEnd: gap.upperBound, isWrite: false)
      request.job = job
      request.runner = cuffd_thread_id()
      return request
    }
  }

  /// The calling thread begins to work on a request. Puts the pages that threads wait for so far into `pages`. Copied, because
  /// a list that two hold is copied when it grows.
  func take(_ request: PoolRequest, waiting pages: inout [UInt]) {
    pages.removeAll(keepingCapacity: true)
    state.withLock { _ in
      request.runner = cuffd_thread_id()
      request.known = request.waiting.count
      pages.append(contentsOf: request.waiting)
    }
  }

  /// A request that took too long, and what has to be done about it.
  struct Overdue {
    let request: PoolRequest
    let region: Region
    var pages: [UInt]
    var followers: [PoolPrefetch]
    var job: PoolPrefetch?
  }

  /// Withdraws the requests that are older than their region's deadline: what they would bring is not put in place any more,
  /// and their pages can be asked for again. They are never used again, because nobody knows how long others hold them.
  func withdrawOverdue() -> [Overdue] {
    let now = cuffd_monotonic_nanoseconds()
    let overdue = state.withLock { state -> [Overdue] in
      var overdue: [Overdue] = []
      state.active.removeAll { request in
        guard let region = request.region, request.permit.isOlder(than: region.deadline, at: now),
          request.permit.withdraw()
        else { return false }
        // Whoever waits for it in a signal handler learns that it has ended.
        request.generation += 1
        overdue.append(
          Overdue(
            request: request, region: region, pages: request.waiting, followers: request.followers, job: request.job))
        return true
      }
      return overdue
    }
    if !overdue.isEmpty { state.announce() }
    return overdue
  }

  /// Ends a request. `wake` gets the pages that threads may still wait for, so that they ask again; `resubmit` the jobs that
  /// waited for it.
  ///
  /// The first `handled` waiting pages need nothing. The first `known` were waiting when the answer was put in place, which
  /// woke those inside of `filled`. For those that came later nothing is certain: somebody may have dropped the page again, and
  /// the thread faulted anew.
  func finish(
    _ request: PoolRequest, filled: Range<Int>, handled: Int, known: Int, wake: (UInt) -> Void,
    resubmit: (PoolPrefetch) -> Void
  ) {
    let region = request.region!
    let isOurs = state.withLock { state in
      guard let index = state.active.firstIndex(where: { $0 === request }) else { return false }
      state.active.remove(at: index)
      return true
    }
    // One that was withdrawn has been answered for.
    guard isOurs else { return }
    // Nobody else finds it now.
    for index in handled..<max(handled, request.waiting.count) {
      let page = request.waiting[index]
      if index >= known || !filled.contains(region.offset(of: page)) { wake(page) }
    }
    request.followers.forEach(resubmit)
    state.withLock { state in
      request.clear()
      state.free.append(request)
    }
    state.announce()
  }

  /// A thread of the runtime's own that waits for a page, and the one that works on it; 0 where none does.
  struct Wait: Hashable {
    var waiting: UInt32
    var serving: UInt32
    var page: UInt
  }

  /// The waits for requests that somebody works on, or has to make room for.
  var waits: [Wait] { waits { $0 != 0 } }

  /// The waits for requests that nobody works on yet.
  var unserved: [Wait] { waits { $0 == 0 } }

  private func waits(whereServer isMeant: (UInt32) -> Bool) -> [Wait] {
    state.withLock { state in
      state.active.flatMap { request in
        request.askers.compactMap { asker in
          let server = state.server(of: request)
          guard isMeant(server), !request.hasPage(asker.page) else { return nil }
          return Wait(waiting: asker.thread, serving: server, page: asker.page)
        }
      }
    }
  }

  /// The thread of a wait does not wait any more: its page has failed.
  func forget(_ wait: Wait) {
    state.withLock { state in
      for request in state.active {
        request.askers.removeAll { $0.thread == wait.waiting && $0.page == wait.page }
      }
    }
  }

  /// What a thread works on.
  func work(of thread: UInt32) -> (region: Region, range: Range<Int>)? {
    state.withLock { state in
      guard let request = state.active.first(where: { $0.runner == thread }), let region = request.region else {
        return nil
      }
      return (region, request.start..<request.end)
    }
  }

  /// Pages of a region that are being fetched because threads wait for them.
  func waitingPages(of region: Region) -> Int {
    state.withLock { $0.active.reduce(0) { $0 + ($1.region === region ? $1.waiting.count : 0) } }
  }

  /// Waits until nothing of a region is being fetched, or until the time is up.
  func waitUntilNothing(of region: Region, nanoseconds: UInt64) {
    // A slice at a time, because signals wait as long as the thread does.
    let start = cuffd_monotonic_nanoseconds()
    while cuffd_monotonic_nanoseconds() - start < nanoseconds {
      let hasEnded = state.wait(nanoseconds: min(nanoseconds, 20_000_000)) { state in
        state.active.contains { $0.region === region } ? nil : true
      }
      if hasEnded != nil { return }
    }
  }
}
