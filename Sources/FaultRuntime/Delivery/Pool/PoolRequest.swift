/// A piece of a region that the pool is fetching, or is about to fetch. Requests are used again, so that faults
/// allocate nothing.
// Safe to share: the lock of `RequestsInFlight` protects what changes while the request is under way. Everything else
// is written by the thread that begins the request, before another thread can see it.
final class PoolRequest: @unchecked Sendable {
  /// A thread of the runtime's own that waits for a page of this request.
  struct Asker {
    var page: UInt
    var thread: UInt32
  }

  /// The region that the piece belongs to; nil while the request is not in use.
  var region: Region?
  var start = 0
  var end = 0
  /// The offset at which the units end that threads wait for, as in `FaultRun`.
  var neededEnd = 0
  var isWrite = false
  /// The pages that threads wait for. The list grows while the request is under way.
  var waiting: [UInt] = []
  /// The waiting threads that are the runtime's own.
  var askers: [Asker] = []
  /// The prefetches that go on when this request has ended.
  var followers: [PoolPrefetch] = []
  /// The prefetch that this request is a step of; nil for demand.
  var job: PoolPrefetch?
  /// The thread that works on the request; 0 while none does.
  var runner: UInt32 = 0
  let permit = AnswerPermit()
  /// The memory in which the answer is assembled. It belongs to the request and not to a thread. Only the thread that
  /// works on the request uses it.
  var staging = StagingBuffer()
  /// Goes up whenever the request ends, so that a thread that waits for the request can tell it from a later use of
  /// the same object.
  var generation = 0

  init() { waiting.reserveCapacity(16) }

  /// Whether another page can be added to `waiting` without an allocation.
  var hasRoomToWait: Bool { waiting.count < waiting.capacity }

  @inline(__always)
  func covers(_ offset: Int, of other: Region) -> Bool { region === other && offset >= start && offset < end }

  /// Whether a page of the request has come. A thread that waits for such a page can go on at once.
  func hasPage(_ page: UInt) -> Bool { region?.memory.isThere(page) ?? false }

  /// The number of pages in `waiting` when the work on the request began. Pages behind those were added later.
  var known = 0

  /// Adds a page that a thread waits for. A page that was added since the work began is not added twice, because a
  /// thread that signals interrupt faults again and again. A page in front of `known` is added again: the answer may
  /// have put it in place already, and a thread that faults on it now has lost it since.
  func await(_ fault: PendingFault) {
    if !waiting[known...].contains(fault.page) { waiting.append(fault.page) }
    if fault.asker != 0 { askers.append(Asker(page: fault.page, thread: fault.asker)) }
  }

  /// Returns the description of a deadlock: the thread that works on this request has touched a page for which it
  /// would wait for ever.
  func deadlock(touching offset: Int, of touched: Region) -> SelfDeadlock {
    SelfDeadlock(
      region: region?.name ?? "unknown", range: start..<end, touchedRegion: touched.name, touchedOffset: offset)
  }

  /// Makes the request ready for its next use.
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
