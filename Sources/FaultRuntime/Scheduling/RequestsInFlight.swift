internal import CUFFD

/// The pieces of a handler's regions that are being fetched by the pool: each page is in one of them at most, however many
/// threads wait for it, and whether it was a fault or a prefetch that came first.
final class RequestsInFlight: Sendable {
  // Safe to share: behind the lock of the monitor.
  private struct State: ~Copyable {
    var active: [PoolRequest] = []
    var free: [PoolRequest] = []
    var reports = PresentReports()

    /// Room for what a crowd of threads asks for, so that faults allocate nothing.
    init() {
      active.reserveCapacity(64)
      free.reserveCapacity(64)
      for _ in 0..<8 { free.append(PoolRequest()) }
    }

    /// The part of `bounds` around `offset` that nobody fetches.
    func gap(around offset: Int, of region: RegionCore, in bounds: Range<Int>) -> Range<Int> {
      var low = bounds.lowerBound
      var high = bounds.upperBound
      for request in active where request.region === region {
        if request.end <= offset { low = max(low, request.end) }
        if request.start > offset { high = min(high, request.start) }
      }
      return low..<high
    }

    mutating func begin(_ region: RegionCore, _ range: Range<Int>, neededEnd: Int, isWrite: Bool) -> PoolRequest {
      let request = free.popLast() ?? PoolRequest()
      request.region = region
      request.start = range.lowerBound
      request.end = range.upperBound
      request.neededEnd = min(neededEnd, range.upperBound)
      request.isWrite = isWrite
      active.append(request)
      return request
    }
  }

  private let state = Monitor(State())

  /// Takes the faults of a run in: those on pages that are being fetched wait for that, and the others become requests,
  /// which `submit` gets. `wake` gets pages that have arrived since the fault was read, and `resubmit` is as in `finish`.
  func admit(
    _ run: borrowing FaultRun, _ batch: borrowing FaultBatch, submit: (PoolRequest) -> Void, wake: (UInt) -> Void,
    resubmit: (PoolPrefetch) -> Void
  ) {
    let region = run.region
    for index in run.faults {
      let fault = batch[index]
      let offset = region.offset(of: fault.page)
      let bounds = run.start..<run.end
      let neededEnd = run.neededEnd
      let request = state.withLock { state -> PoolRequest? in
        if let request = state.active.first(where: { $0.covers(offset, of: region) }) {
          request.waiting.append(fault.page)
          return nil
        }
        let gap = state.gap(around: offset, of: region, in: bounds)
        let request = state.begin(region, gap, neededEnd: max(neededEnd, offset + 1), isWrite: fault.isWrite)
        request.waiting.append(fault.page)
        return request
      }
      guard let request else { continue }
      // It may have come since the fault was read. Looked at only now, when nobody else can be filling it.
      if cuffd_is_resident(UInt64(fault.page)) != 0, isCredible(fault.page) {
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

  /// Claims what is missing from `offset` on, for a prefetch. Nil where that is being fetched already: the job is then
  /// submitted again when it has arrived.
  func claim(for job: PoolPrefetch, from offset: Int, to end: Int) -> PoolRequest? {
    state.withLock { state in
      if let request = state.active.first(where: { $0.covers(offset, of: job.region) }) {
        request.followers.append(job)
        return nil
      }
      let gap = state.gap(around: offset, of: job.region, in: offset..<end)
      return state.begin(job.region, gap, neededEnd: gap.upperBound, isWrite: false)
    }
  }

  /// Puts the pages that threads wait for so far into `pages`. Copied, because a list that two hold is copied when it grows.
  func takeWaiting(for request: PoolRequest, into pages: inout [UInt]) {
    pages.removeAll(keepingCapacity: true)
    state.withLock { _ in pages.append(contentsOf: request.waiting) }
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
    state.withLock { state in
      if let index = state.active.firstIndex(where: { $0 === request }) { state.active.remove(at: index) }
    }
    // Nobody else finds it now.
    for index in handled..<max(handled, request.waiting.count) {
      let page = request.waiting[index]
      if index >= known || !filled.contains(region.offset(of: page)) { wake(page) }
    }
    request.followers.forEach(resubmit)
    state.withLock { state in
      request.region = nil
      request.waiting.removeAll(keepingCapacity: true)
      request.followers.removeAll(keepingCapacity: true)
      state.free.append(request)
    }
    state.announce()
  }

  /// Waits until nothing of a region is being fetched, or until the time is up.
  func waitUntilNothing(of region: RegionCore, nanoseconds: UInt64) {
    _ = state.wait(nanoseconds: nanoseconds) { state in
      state.active.contains { $0.region === region } ? nil : true
    }
  }
}
