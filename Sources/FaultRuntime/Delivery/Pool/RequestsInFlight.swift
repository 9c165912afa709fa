internal import CUFFD

/// The pieces of regions that the pool is fetching for one delivery. Each page is in at most one of them, however
/// many threads wait for it, and whether a fault or a prefetch asked for it first.
final class RequestsInFlight: Sendable {
  private struct State: ~Copyable {
    var active: [PoolRequest] = []
    var free: [PoolRequest] = []
    var reports = PresentReports()

    /// Makes `premade` requests, and reserves room for the requests of many threads, so that faults allocate nothing.
    init(premade: Int) {
      active.reserveCapacity(64)
      free.reserveCapacity(64)
      for _ in 0..<premade { free.append(PoolRequest()) }
    }

    /// Returns the part of `bounds` around `offset` that is in no active request. The page at `offset` must be in
    /// none.
    func gap(around offset: Int, of region: Region, in bounds: Range<Int>) -> Range<Int> {
      var low = bounds.lowerBound
      var high = bounds.upperBound
      for request in active where request.region === region {
        if request.end <= offset { low = max(low, request.end) }
        if request.start > offset { high = min(high, request.start) }
      }
      return low..<high
    }

    /// Returns the thread that has to end its work before a request can be answered; 0 where that thread is not
    /// known.
    func server(of request: PoolRequest) -> UInt32 {
      request.runner != 0 ? request.runner : request.region.map { onlyThread(of: $0) } ?? 0
    }

    /// Returns the thread that is asking the provider of a region, where the provider permits only one; 0 where
    /// several threads may ask, and where none is asking.
    func onlyThread(of region: Region) -> UInt32 {
      guard !region.mayBeAskedConcurrently else { return 0 }
      return active.first { $0.region === region && $0.runner != 0 }?.runner ?? 0
    }

    /// Returns the request that `thread` works on, if `server` cannot go on before that request is answered: `server`
    /// is that thread, or waits for it, directly or over a chain of other threads. If `thread` then waited for
    /// `server`, neither would ever go on. Returns nil where there is no such cycle.
    func deadlock(of thread: UInt32, waitingFor server: UInt32) -> PoolRequest? {
      var runner = server
      for _ in 0...active.count {
        if runner == 0 { return nil }
        if runner == thread { return active.first { $0.runner == thread } }
        // A thread whose page has come does not wait any more.
        let next = active.first { other in
          other.askers.contains { $0.thread == runner && !other.hasPage($0.page) }
        }
        guard let next else { return nil }
        runner = self.server(of: next)
      }
      return nil
    }

    /// Begins a request.
    ///
    /// - Parameter start: the time from which the region's timeout counts, in monotonic nanoseconds; 0 for now.
    mutating func begin(
      _ region: Region, _ range: Range<Int>, neededEnd: Int, isWrite: Bool, since start: UInt64 = 0
    ) -> PoolRequest {
      let request = free.popLast() ?? PoolRequest()
      request.region = region
      request.start = range.lowerBound
      request.end = range.upperBound
      request.neededEnd = min(neededEnd, range.upperBound)
      request.isWrite = isWrite
      request.permit.renew(expires: region.timeout != 0, since: start)
      active.append(request)
      return request
    }
  }

  private let state: Monitor<State>

  /// - Parameter premade: the number of requests that are made at the start. While no more than these are under way,
  ///   beginning a request allocates nothing. Further requests are made when they are needed.
  init(premade: Int = 8) { state = Monitor(State(premade: premade)) }

  /// Takes in the faults of a run. A fault on a page that is being fetched is added to the request for that page. The
  /// other faults become new requests.
  ///
  /// - Parameters:
  ///   - submit: gets each new request.
  ///   - wake: gets each page that has arrived since its fault was read.
  ///   - resubmit: gets prefetches, as in `finish`.
  ///   - fail: gets each page for which a thread of the runtime would wait for ever.
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
            // This thread gets an error and waits no longer, so it is not listed among the askers.
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
      // The page may have come since the fault was read. This is checked only now, because no other thread can be
      // filling the page from now on.
      if region.memory.isThere(fault.page), isCredible(fault.page) {
        finish(request, filled: 0..<0, handled: 0, known: 0, wake: wake, resubmit: resubmit)
      } else {
        submit(request)
      }
    }
  }

  /// Returns whether to believe that a page is there although a thread has faulted on it: the page may have come
  /// since the fault was read. A page that stays in this state is not believed for ever: after
  /// `ResolutionStep.presentLimit` such faults, with less than a second between them, the result is false and the
  /// count begins again.
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

  /// Reserves staging memory for the requests that are not in use, because at the limit of mappings there is no
  /// memory to be had.
  func reserveStaging(_ pageSize: PageSize) {
    state.withLock { state in
      for request in state.free { request.staging.reserve(for: pageSize) }
    }
  }

  // MARK: Threads that wait in their signal handler

  /// A request that a thread waits for, together with the generation that tells this use of the request from later
  /// ones.
  struct Ticket {
    fileprivate let request: PoolRequest
    fileprivate let generation: Int
  }

  /// Takes in one fault, as ``admit(_:_:submit:wake:resubmit:fail:)`` does with many. The caller then waits for the
  /// ticket.
  ///
  /// The caller may be in a signal handler. The function allocates nothing while the requests that were made at the
  /// start are enough.
  ///
  /// - Parameters:
  ///   - submit: gets the new request, if the page is not being fetched yet.
  ///   - resubmit: gets prefetches, as in `finish`.
  /// - Returns: nil if the page has come since the fault.
  func admit(
    _ fault: PendingFault, of run: borrowing FaultRun, submit: (PoolRequest) -> Void, resubmit: (PoolPrefetch) -> Void
  ) -> Ticket? {
    let region = run.region
    let offset = region.offset(of: fault.page)
    let bounds = run.start..<run.end
    let neededEnd = run.neededEnd
    let (request, isNew, generation) = state.withLock { state in
      if let request = state.active.first(where: { $0.covers(offset, of: region) }) {
        // A thread for which the list has no room still waits. If its page has not come when the request ends, the
        // thread faults again.
        if request.hasRoomToWait { request.await(fault) }
        return (request, false, request.generation)
      }
      let gap = state.gap(around: offset, of: region, in: bounds)
      let request = state.begin(region, gap, neededEnd: max(neededEnd, offset + 1), isWrite: fault.isWrite)
      request.await(fault)
      return (request, true, request.generation)
    }
    if isNew {
      // This is checked only now, because no other thread can be filling the page from now on.
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

  /// Begins a request for a step of a prefetch: the part of the range from `offset` to `end` up to the next active
  /// request. Returns nil if the page at `offset` is being fetched already; the job is submitted again when that
  /// request ends.
  func claim(for job: PoolPrefetch, from offset: Int, to end: Int) -> PoolRequest? {
    state.withLock { state in
      if let request = state.active.first(where: { $0.covers(offset, of: job.region) }) {
        request.followers.append(job)
        return nil
      }
      let gap = state.gap(around: offset, of: job.region, in: offset..<end)
      let request = state.begin(
        job.region, gap, neededEnd: gap.upperBound, isWrite: false, since: job.askedAt)
      request.job = job
      request.runner = cuffd_thread_id()
      return request
    }
  }

  /// Notes that the calling thread begins to work on a request, and copies the pages that threads wait for so far
  /// into `pages`. The pages are copied, because a list that two variables share would be copied when it grows, and
  /// that allocates.
  func take(_ request: PoolRequest, waiting pages: inout [UInt]) {
    pages.removeAll(keepingCapacity: true)
    state.withLock { _ in
      request.runner = cuffd_thread_id()
      request.known = request.waiting.count
      pages.append(contentsOf: request.waiting)
    }
  }

  /// A request that was withdrawn because it took too long, with the threads and prefetches that wait for it.
  struct Overdue {
    let request: PoolRequest
    let region: Region
    var pages: [UInt]
    var followers: [PoolPrefetch]
    var job: PoolPrefetch?
  }

  /// Withdraws the requests that are older than their region's timeout, and returns them. Their answers are not put
  /// in place any more, and their pages can be asked for again. A withdrawn request is not used again, because the
  /// thread that asks the provider may hold it for any length of time.
  func withdrawOverdue() -> [Overdue] {
    let now = cuffd_monotonic_nanoseconds()
    let overdue = state.withLock { state -> [Overdue] in
      var overdue: [Overdue] = []
      state.active.removeAll { request in
        guard let region = request.region, request.permit.isOlder(than: region.timeout, at: now),
          request.permit.withdraw()
        else { return false }
        // A thread that waits for the request in a signal handler sees by this that the request has ended.
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

  /// Removes and returns the prefetches that have waited for another request for longer than their region's timeout.
  /// That request may be younger than they are.
  func withdrawOverdueFollowers() -> [PoolPrefetch] {
    let now = cuffd_monotonic_nanoseconds()
    return state.withLock { state in
      var overdue: [PoolPrefetch] = []
      for request in state.active where request.followers.contains(where: { $0.isOverdue(at: now) }) {
        overdue += request.followers.filter { $0.isOverdue(at: now) }
        request.followers.removeAll { $0.isOverdue(at: now) }
      }
      return overdue
    }
  }

  /// Ends a request. A request that was withdrawn is left alone, because its pages have failed already.
  ///
  /// For pages that were added after the work began nothing is certain: the page may have been put in place and
  /// dropped again, after which a thread faulted anew. Those threads are woken, and fault again if they have to.
  ///
  /// - Parameters:
  ///   - filled: the offsets that were put in place, which woke the threads that waited for pages in that range.
  ///   - handled: how many pages at the front of the waiting list need nothing more.
  ///   - known: how many pages at the front of the waiting list were there when the work began.
  ///   - wake: gets each page that threads may still wait for.
  ///   - resubmit: gets the prefetches that waited for the request.
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
    guard isOurs else { return }
    // The request is out of the list, so no other thread can reach it now.
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

  /// A thread of the runtime's own that waits for a page, and the thread whose work has to end before the page can
  /// come; `serving` is 0 where that thread is not known.
  struct Wait: Hashable {
    var waiting: UInt32
    var serving: UInt32
    var page: UInt
  }

  /// The waits for requests that a thread works on, or that wait until a certain thread is done with the provider.
  var waits: [Wait] { waits { $0 != 0 } }

  /// The waits for requests that no thread works on yet, and that any free thread of the pool could take.
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

  /// Removes a wait: its page has failed, so its thread does not wait any more.
  func forget(_ wait: Wait) {
    state.withLock { state in
      for request in state.active {
        request.askers.removeAll { $0.thread == wait.waiting && $0.page == wait.page }
      }
    }
  }

  /// Returns the region and the range that a thread works on; nil where it works on no request.
  func work(of thread: UInt32) -> (region: Region, range: Range<Int>)? {
    state.withLock { state in
      guard let request = state.active.first(where: { $0.runner == thread }), let region = request.region else {
        return nil
      }
      return (region, request.start..<request.end)
    }
  }

  /// The number of pages of a region that are being fetched because threads wait for them.
  func waitingPages(of region: Region) -> Int {
    state.withLock { $0.active.reduce(0) { $0 + ($1.region === region ? $1.waiting.count : 0) } }
  }

  /// Waits until no page of a region is being fetched, or until the time is up.
  func waitUntilNothing(of region: Region, nanoseconds: UInt64) {
    _ = state.wait(nanoseconds: nanoseconds) { state in state.active.contains { $0.region === region } ? nil : true }
  }
}
