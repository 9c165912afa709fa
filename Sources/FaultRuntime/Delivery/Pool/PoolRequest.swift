/// A piece of a region that a thread of the pool is asked for, or is working on. It is used again, so that faults allocate nothing.
// Safe to share: the lock of `RequestsInFlight` protects what changes while it is under way; the rest is written by whoever
// made it, before it is handed over.
final class PoolRequest: @unchecked Sendable {
  /// A thread of the runtime's own that waits for a page.
  struct Asker {
    var page: UInt
    var thread: UInt32
  }

  /// Nil while it is not in use.
  var region: Region?
  var start = 0
  var end = 0
  /// Where the units end that somebody waits for, as in `FaultRun`.
  var neededEnd = 0
  var isWrite = false
  /// The pages that threads wait for. Grows while the request is under way.
  var waiting: [UInt] = []
  /// Those of the waiting threads that the runtime needs itself.
  var askers: [Asker] = []
  /// Prefetches that go on when this is done.
  var followers: [PoolPrefetch] = []
  /// The prefetch that made it, if any.
  var job: PoolPrefetch?
  /// The thread that works on it; 0 while none does.
  var runner: UInt32 = 0
  let permit = AnswerPermit()
  /// Where the answer is assembled. It belongs to the request and not to the thread, so an answer may come from elsewhere. It is
  /// touched by whoever works on the request, and by nobody else.
  var staging = StagingBuffer()
  /// Goes up whenever the request has ended, so that those who wait for it know it from its next use.
  var generation = 0

  init() { waiting.reserveCapacity(16) }

  /// Whether another page can be added to `waiting` without an allocation.
  var hasRoomToWait: Bool { waiting.count < waiting.capacity }

  @inline(__always)
  func covers(_ offset: Int, of other: Region) -> Bool { region === other && offset >= start && offset < end }

  /// Whether a page of the request has come. It then keeps nobody who waits for it.
  func hasPage(_ page: UInt) -> Bool { region?.memory.isThere(page) ?? false }

  /// The number of waiting pages that were known when the work on the request began. Pages behind those came later.
  var known = 0

  /// Takes a page in that a thread waits for. A thread that is interrupted by signals asks again and again; but one that asks
  /// again for a page that has been put in place has lost it since.
  func await(_ fault: PendingFault) {
    if !waiting[known...].contains(fault.page) { waiting.append(fault.page) }
    if fault.asker != 0 { askers.append(Asker(page: fault.page, thread: fault.asker)) }
  }

  /// What is said of the thread that works on this and touches another page, for which it would wait for ever.
  func deadlock(touching offset: Int, of touched: Region) -> SelfDeadlock {
    SelfDeadlock(
      region: region?.name ?? "unknown", range: start..<end, touchedRegion: touched.name, touchedOffset: offset)
  }

  /// Makes it ready for its next use.
  func clear() {
    generation += 1
    region = nil
    waiting.removeAll(keepingCapacity: true)
    askers.removeAll(keepingCapacity: true)
    followers.removeAll(keepingCapacity: true)
    job = nil
    known = 0
    runner = 0
  }
}
