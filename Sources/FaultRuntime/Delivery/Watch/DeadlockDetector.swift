internal import CUFFD

/// Finds threads of the runtime that wait for one another in faults. One case is a handler whose provider touches
/// lazy memory that the same handler would have to serve. Others are longer cycles of handlers and threads of the
/// pool.
struct DeadlockDetector: ~Copyable {
  private struct Wait: Hashable {
    /// The thread that waits, and the thread that it waits for.
    var threads: RequestsInFlight.Wait
    /// The index of the handler that serves the page.
    var loop: Int
  }

  private var messages = MessageBuffer(capacity: 64)
  /// The progress of each handler at the last look.
  private var progress: [Int] = []
  /// The waits for requests of the pool at the last look.
  private var earlier: Set<Wait> = []
  /// The waits at the last look that no thread had begun to serve.
  private var unserved: Set<Wait> = []

  init() { progress.reserveCapacity(64) }

  /// Looks for cycles, and fails one page of each. The thread that waits for that page gets SIGBUS in the provider.
  mutating func look(at loops: [EventLoop]) {
    var others: [Wait] = []
    var waits: [Wait] = []
    for wait in takeFaults(of: loops) {
      if loops[wait.loop].ownThreads.contains(wait.threads.waiting) { waits.append(wait) } else { others.append(wait) }
    }
    // The handlers are looked at one after another, so a single look can see waits that never were there at the same
    // time. A wait that was seen in the last look and in this one was there throughout.
    let pooled = Set(loops.indices.flatMap { loop in loops[loop].inFlight.waits.map { Wait(threads: $0, loop: loop) } })
    let faults = waits
    waits += pooled.intersection(earlier)
    earlier = pooled
    while let wait = waits.first(where: { leadsBack($0, waits) }) {
      waits.removeAll { $0 == wait }
      fail(wait, loops)
    }
    failUnserved(loops)
    // These threads are woken and fault again. The thread that reads messages then takes their faults.
    for wait in others + faults.filter(waits.contains) { wake(wait, loops) }
  }

  /// Fails a page if every thread that the pool may have waits in a fault, so that no thread is left to answer any of
  /// them.
  private mutating func failUnserved(_ loops: [EventLoop]) {
    let now = Set(loops.indices.flatMap { loop in loops[loop].inFlight.unserved.map { Wait(threads: $0, loop: loop) } })
    defer { unserved = now }
    // One page is enough: its thread goes on, and answers others.
    guard let wait = now.first(where: unserved.contains), loops[wait.loop].pool.allWaitInFaults else { return }
    fail(wait, loops)
  }

  /// Reads the messages of handlers whose serving thread sleeps until one of them is read, and returns the faults. A
  /// thread that waits for an event of its own goes on when the event has been read.
  private mutating func takeFaults(of loops: [EventLoop]) -> [Wait] {
    var faults: [Wait] = []
    for (index, loop) in loops.enumerated() {
      // This loop allocates nothing unless it finds something.
      let latest = loop.progress
      if index == progress.count { progress.append(latest - 1) }
      let isStill = progress[index] == latest
      progress[index] = latest
      guard isStill, loop.waitsForMessage else { continue }
      while (try? loop.uffd.read(into: &messages)) != nil, messages.count > 0 {
        for number in 0..<messages.count {
          guard case .pagefault(let address, _, let thread) = messages[number] else {
            loop.events.handle(messages[number])
            continue
          }
          let threads = RequestsInFlight.Wait(
            waiting: thread, serving: loop.servingThread, page: loop.pageSize.pageStart(of: address))
          faults.append(Wait(threads: threads, loop: index))
        }
      }
    }
    return faults
  }

  private func leadsBack(_ wait: Wait, _ waits: [Wait]) -> Bool {
    var reached: Set<UInt32> = [wait.threads.serving]
    var isGrowing = true
    while isGrowing {
      isGrowing = false
      for next in waits where reached.contains(next.threads.waiting) {
        if reached.insert(next.threads.serving).inserted { isGrowing = true }
      }
    }
    return reached.contains(wait.threads.waiting)
  }

  private func fail(_ wait: Wait, _ loops: [EventLoop]) {
    let serving = loops[wait.loop]
    let page = wait.threads.page
    guard let touched = serving.region(at: page) else {
      return wake(wait, loops)
    }
    let thread = wait.threads.waiting
    let asked =
      loops.lazy.compactMap { $0.inFlight.work(of: thread) }.first
      ?? loops.first { $0.servingThread == thread }?.asking
    let deadlock = SelfDeadlock(
      region: asked?.region.name ?? "unknown", range: asked?.range ?? 0..<0, touchedRegion: touched.name,
      touchedOffset: touched.offset(of: page))
    serving.inFlight.forget(wait.threads)
    serving.pooled.fail(page, of: touched, ResolutionError.deadlock(deadlock))
  }

  private func wake(_ wait: Wait, _ loops: [EventLoop]) {
    let loop = loops[wait.loop]
    try? loop.uffd.wake(AddressRange(start: wait.threads.page, byteCount: loop.pageSize.bytes))
  }
}
