internal import CUFFD

/// The two threads that a handler can have. One serves at a time: an unprivileged thread that has entered `SCHED_IDLE` cannot
/// leave it again, so another one takes over.
enum HandlerRole: CInt, Sendable {
  /// In the usual scheduling class.
  case ordinary
  /// Under `SCHED_IDLE`, on the faulting thread's CPU.
  case following
}

/// Puts the handler thread where its placement wants it, between batches of faults. Used by whichever of a handler's threads
/// serves.
struct HandlerPlacer: ~Copyable {
  /// How long to look for faults without sleeping, in nanoseconds.
  let spinNanoseconds: UInt64

  private enum Kind { case fixed, spinning, following }

  private let kind: Kind
  private var policy: FollowingPolicy
  private var locator: ThreadLocator
  private var looks = LookSchedule()
  /// Whose fault was the latest of the batch before.
  private var latest: UInt32 = 0
  private let cpuCount = Int(cuffd_online_cpus())
  private let ignoresLoad: Bool

  /// On a handler thread that has not chosen its CPU yet.
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

  /// Whether a handler that the caller starts may need its second thread.
  static func mayFollow(_ placement: HandlerPlacement, knowsThreads: Bool) -> Bool {
    switch placement.kind {
    case .automatic, .withFaultingThread: knowsThreads && CPUSet.ofCaller().count > 1
    case .spinning, .scheduler: false
    }
  }

  /// After a batch of so many messages whose last fault was `thread`'s. Returns who should serve from now on, where that
  /// is somebody else.
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
    // One fault of a thread that seldom makes one is no reason to leave the other. What is due stays due.
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

  /// Follows in the usual class only, because the thread for `SCHED_IDLE` cannot be had.
  mutating func giveUpIdle() {
    policy.giveUpIdle()
    locator.forget()
  }

  /// Whether there are other threads than the caller for every CPU. Then nothing sleeps, and waking is cheap anyhow.
  private var isEveryCPUBusy: Bool { Int(cuffd_runnable_threads()) - 1 >= cpuCount }
}
