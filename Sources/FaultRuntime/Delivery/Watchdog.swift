internal import CUFFD

/// A thread that looks after the handlers now and then: it gives up what has taken longer than its deadline, and ends waits
/// that would never end. Nothing on the way of a fault knows of it.
final class Watchdog: Sendable {
  private struct State: Sendable {
    var period: UInt64
    var isStopping = false
    var thread: FaultThread?
  }

  /// How often it looks where no deadline wants it sooner, in nanoseconds.
  private static let longestPeriod: UInt64 = 500_000_000
  private static let shortestPeriod: UInt64 = 1_000_000

  private let state = Monitor(State(period: longestPeriod))
  private let handlers: Handlers

  init(_ handlers: Handlers) { self.handlers = handlers }

  /// Looks after a region with this deadline as well, in nanoseconds; 0 where it has none. Without a thread for it, throws.
  func watch(deadline: UInt64) throws(FaultRuntimeError) {
    let wanted = deadline == 0 ? Self.longestPeriod : max(Self.shortestPeriod, min(deadline / 4, Self.longestPeriod))
    let (failure, isSooner) = state.withLock { state -> (HostCallError?, Bool) in
      let isSooner = wanted < state.period
      if isSooner { state.period = wanted }
      guard state.thread == nil, !state.isStopping else { return (nil, isSooner) }
      do throws(HostCallError) {
        state.thread = try FaultThread(name: "fault-watchdog", stackByteCount: 1 << 18) { [self] in run() }
        return (nil, false)
      } catch {
        return (error, false)
      }
    }
    if isSooner { state.announce() }
    if let failure { throw .cannotStart(failure) }
  }

  func stop() {
    let thread = state.withLock { state in
      state.isStopping = true
      return state.thread
    }
    state.announce()
    guard let thread else { return }
    if thread.isCurrent { thread.detach() } else { thread.join() }
  }

  private func run() {
    var detector = DeadlockDetector()
    while !isOver() {
      let loops = handlers.all
      for loop in loops { loop.giveUpOverdue() }
      detector.look(at: loops)
    }
  }

  /// Waits for the next look.
  private func isOver() -> Bool {
    var period: UInt64 = 0
    // A period that becomes shorter counts at once.
    while true {
      let before = period
      period = state.withLock { $0.period }
      if before == period { return false }
      let isStopping = state.wait(nanoseconds: period) { state -> Bool? in
        state.isStopping ? true : state.period < period ? false : nil
      }
      if isStopping == true { return true }
      if isStopping == nil { return false }
    }
  }
}

/// Finds handlers whose providers, which run on the handler's own thread, have touched lazy memory that this very thread would
/// have to serve, or that another handler's thread would which waits for this one.
struct DeadlockDetector: ~Copyable {
  private struct Wait {
    /// Who waits, and for whom, as indices.
    var waiting: Int
    var serving: Int
    var page: UInt
  }

  private var messages = MessageBuffer(capacity: 64)
  /// What each handler had done at the last look.
  private var progress: [Int] = []
  /// Those whose thread sleeps in a fault, and has done nothing since the last look.
  private var stuck: [Int] = []

  init() {
    progress.reserveCapacity(64)
    stuck.reserveCapacity(64)
  }

  /// Fails one page of each cycle, whose thread gets SIGBUS in the provider.
  mutating func look(at loops: [EventLoop]) {
    // A look that finds nothing allocates nothing.
    stuck.removeAll(keepingCapacity: true)
    for (index, loop) in loops.enumerated() {
      let latest = loop.progress
      if index == progress.count {
        progress.append(latest)
      } else if progress[index] == latest, loop.waitsInFault {
        stuck.append(index)
      }
      progress[index] = latest
    }
    guard !stuck.isEmpty else { return }
    var waits: [Wait] = []
    var others: [(loop: Int, page: UInt)] = []
    for index in stuck {
      let loop = loops[index]
      // The thread that should read them sleeps, so nobody else does.
      while (try? loop.uffd.read(into: &messages)) != nil, messages.count > 0 {
        for number in 0..<messages.count {
          guard case .pagefault(let address, _, let thread) = messages[number] else { continue }
          let page = loop.pageSize.pageStart(of: address)
          if let waiting = stuck.first(where: { loops[$0].servingThread == thread }) {
            waits.append(Wait(waiting: waiting, serving: index, page: page))
          } else {
            others.append((index, page))
          }
        }
      }
    }
    for wait in waits {
      if leadsBack(wait, waits) { fail(wait, loops) } else { others.append((wait.serving, wait.page)) }
    }
    // They ask again, and are read by whoever reads then.
    for other in others {
      try? loops[other.loop].uffd.wake(AddressRange(start: other.page, byteCount: loops[other.loop].pageSize.bytes))
    }
  }

  private func leadsBack(_ wait: Wait, _ waits: [Wait]) -> Bool {
    var serving = wait.serving
    for _ in 0...waits.count {
      if serving == wait.waiting { return true }
      guard let next = waits.first(where: { $0.waiting == serving }) else { return false }
      serving = next.serving
    }
    return false
  }

  private func fail(_ wait: Wait, _ loops: [EventLoop]) {
    let serving = loops[wait.serving]
    guard let touched = serving.table.region(containing: wait.page) else { return }
    let asked = loops[wait.waiting].asking
    let deadlock = SelfDeadlock(
      region: asked?.region.name ?? "unknown", range: asked?.range ?? 0..<0, touchedRegion: touched.name,
      touchedOffset: touched.offset(of: wait.page))
    serving.pooled.fail(wait.page, of: touched, ResolutionError.deadlock(deadlock), serving.uffd)
  }
}
