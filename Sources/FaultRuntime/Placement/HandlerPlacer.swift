internal import CUFFD

/// The two threads that a handler can have, one of which serves at a time. An unprivileged thread that has entered
/// `SCHED_IDLE` cannot leave it again, so the other thread takes over.
enum HandlerRole: CInt, Sendable {
  /// The thread in the usual scheduling class.
  case ordinary
  /// The thread under `SCHED_IDLE`, on the faulting thread's CPU.
  case following
}

/// Puts the handler thread where its placement wants it, between batches of faults. The thread of the handler that
/// serves at the moment uses it.
struct HandlerPlacer: ~Copyable {
  /// How long the handler looks for faults without sleeping, in nanoseconds.
  let spinNanoseconds: UInt64

  private enum Kind { case fixed, spinning, following }

  private let kind: Kind
  private var policy: FollowingPolicy
  private var locator: ThreadLocator
  private var looks = LookSchedule()
  /// The thread of the last fault in the batch before.
  private var latest: UInt32 = 0
  private let cpuCount = Int(cuffd_online_cpus())
  private let ignoresLoad: Bool

  /// Makes a placer on a handler thread that has not been confined to a CPU yet.
  init(_ placement: HandlerPlacement, knowsThreads: Bool, ignoresLoad: Bool) {
    self.ignoresLoad = ignoresLoad
    let allowed = CPUSet.ofCaller()
    let canChoose = knowsThreads && allowed.count > 1
    var isUnconditional = false
    var spin: UInt64 = 0
    let wanted: Kind
    switch placement.kind {
    case .scheduler: wanted = .fixed
    case .automatic: wanted = .following
    case .withFaultingThread:
      wanted = .following
      isUnconditional = true
    case .spinning(let duration):
      wanted = .spinning
      spin = duration.clampedNanoseconds
    }
    kind = canChoose ? wanted : .fixed
    spinNanoseconds = spin
    policy = FollowingPolicy(isUnconditional: isUnconditional)
    locator = ThreadLocator(allowed: allowed)
  }

  /// Returns whether a handler that the caller starts may need its second thread.
  static func mayFollow(_ placement: HandlerPlacement, knowsThreads: Bool) -> Bool {
    switch placement.kind {
    case .automatic, .withFaultingThread: knowsThreads && CPUSet.ofCaller().count > 1
    case .spinning, .scheduler: false
    }
  }

  /// Places the handler after a batch of faults. Returns the thread of the handler that should serve from now on; nil
  /// where that is the calling thread.
  ///
  /// - Parameters:
  ///   - thread: the thread of the last fault in the batch.
  ///   - messages: the number of messages in the batch.
  @inline(__always)
  mutating func afterBatch(of thread: UInt32, messages: Int = 1) -> HandlerRole? {
    kind == .fixed ? nil : place(thread, messages)
  }

  private mutating func place(_ thread: UInt32, _ messages: Int) -> HandlerRole? {
    if kind == .spinning {
      if looks.isDue() { looks.looked(moved: locator.avoid(thread)) }
      return nil
    }
    var advice = policy.served(at: cuffd_monotonic_nanoseconds(), messages: messages)
    // A single fault of another thread is no reason to leave the CPU of the thread that usually faults. The look or
    // check stays due.
    let isSame = thread == latest
    latest = thread
    if !isSame, advice == .check || advice == .look { return nil }
    if advice == .check {
      let starved = locator.starvedNanoseconds(for: thread)
      advice = policy.checked(starvedNanoseconds: starved, moved: locator.join(thread))
    }
    switch advice {
    case .goOn, .check: return nil
    case .look:
      policy.looked(moved: locator.visit(thread))
      return nil
    case .leave:
      policy.left()
      locator.forget()
      return .ordinary
    case .tryIdle where !ignoresLoad && isEveryCPUBusy:
      policy.postpone()
      policy.looked(moved: locator.visit(thread))
      return nil
    case .tryIdle:
      policy.began()
      locator.forget()
      return .following
    }
  }

  /// Lets the handler follow in the usual class only, because it cannot have a thread under `SCHED_IDLE`.
  mutating func giveUpIdle() {
    policy.giveUpIdle()
    locator.forget()
  }

  /// Whether there are enough threads for every CPU without the caller. No CPU sleeps then, and waking a thread is
  /// cheap anyway.
  private var isEveryCPUBusy: Bool { Int(cuffd_runnable_threads()) - 1 >= cpuCount }
}
