internal import CUFFD

/// Finds the runtime's own threads that wait for one another in faults: handlers whose providers touch lazy memory that the
/// handler itself would have to serve, and longer cycles, over handlers and threads of the pool.
struct DeadlockDetector: ~Copyable {
  private struct Wait: Hashable {
    /// Which threads wait, and for which.
    var threads: RequestsInFlight.Wait
    /// Whose fault it is, as an index.
    var loop: Int
  }

  private var messages = MessageBuffer(capacity: 64)
  /// What each handler had done at the last look.
  private var progress: [Int] = []
  /// The waits for the pool at the last look.
  private var earlier: Set<Wait> = []
  /// Those for which no thread was left.
  private var unserved: Set<Wait> = []

  init() { progress.reserveCapacity(64) }

  /// Fails one page of each cycle, whose thread gets SIGBUS in the provider.
  mutating func look(at loops: [EventLoop]) {
    var others: [Wait] = []
    var waits: [Wait] = []
    for wait in takeFaults(of: loops) {
      if loops[wait.loop].ownThreads.contains(wait.threads.waiting) { waits.append(wait) } else { others.append(wait) }
    }
    // Handlers are looked at one after the other. Only waits that were there before and after are there at one time.
    let pooled = Set(loops.indices.flatMap { loop in loops[loop].inFlight.waits.map { Wait(threads: $0, loop: loop) } })
    let faults = waits
    waits += pooled.intersection(earlier)
    earlier = pooled
    while let wait = waits.first(where: { leadsBack($0, waits) }) {
      waits.removeAll { $0 == wait }
      fail(wait, loops)
    }
    failUnserved(loops)
    // They ask again, and are read by whoever reads then.
    for wait in others + faults.filter(waits.contains) { wake(wait, loops) }
  }

  /// Where every thread that the pool may have waits in a fault, nobody is left to answer what one of them waits for.
  private mutating func failUnserved(_ loops: [EventLoop]) {
    let now = Set(loops.indices.flatMap { loop in loops[loop].inFlight.unserved.map { Wait(threads: $0, loop: loop) } })
    defer { unserved = now }
    // One is enough: its thread goes on, and answers others.
    guard let wait = now.first(where: unserved.contains), loops[wait.loop].pool.allWaitInFaults else { return }
    fail(wait, loops)
  }

  /// The faults that nobody reads because the thread that should sleeps.
  private mutating func takeFaults(of loops: [EventLoop]) -> [Wait] {
    var faults: [Wait] = []
    for (index, loop) in loops.enumerated() {
      // A look that finds nothing allocates nothing.
      let latest = loop.progress
      if index == progress.count { progress.append(latest - 1) }
      let isStill = progress[index] == latest
      progress[index] = latest
      guard isStill, loop.waitsInFault else { continue }
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
    guard let touched = serving.table.region(containing: page) ?? serving.events.moved(to: page)?.region else {
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
