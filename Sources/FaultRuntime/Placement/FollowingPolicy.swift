/// Decides how a handler follows the faulting thread, from the times at which faults were served: under `SCHED_IDLE`
/// where a CPU is free, and in the usual scheduling class otherwise. The policy itself makes no system call. Its
/// caller reads the clock, looks where threads run, and moves them.
struct FollowingPolicy {
  /// What the caller should do after a batch of faults.
  enum Advice: Hashable {
    case goOn
    /// The caller should go to the CPU of the faulting thread, and call `looked`.
    case look
    /// The caller should find out whether a CPU is free. If so, it should call `began` and hand over to the thread
    /// under `SCHED_IDLE`. Otherwise it should call `postpone`.
    case tryIdle
    /// The caller should find out whether the handler had to wait for its CPU and where the faulting thread runs, and
    /// call `checked`.
    case check
    /// The caller should call `left` and hand over to the thread in the usual class.
    case leave
  }

  /// Whether the handler stays under `SCHED_IDLE` without a comparison of times. It still leaves when it starves, or
  /// when the faulting thread moves all the time.
  let isUnconditional: Bool
  private(set) var isIdle = false

  private var served = 0
  private var nextTrial: Int
  private var patience = firstPatience
  private var latest: UInt64 = 0
  private var intervals = [UInt64](repeating: 0, count: trialLength)
  /// The median interval between batches in the usual class, in nanoseconds; 0 where it is not known yet.
  private var ordinaryMedian: UInt64 = 0
  private var isTrial = false
  private var looks = LookSchedule()
  private var recentMoves = 0
  private var crowd = CrowdGauge()
  private var usual: UInt64 = 10_000

  private static let trialLength = 32
  /// The number of batches on a fresh CPU that do not count, because the faulting thread still finds its place.
  private static let settling = 16
  /// With fewer faults than this, a second thread does not pay.
  private static let faultsBeforeFirstTrial = 4
  private static let firstPatience = 256
  private static let largestPatience = 4096
  /// A pause of this length, in nanoseconds, is looked into at once, because it may have been a wait for the CPU.
  private static let longPause: UInt64 = 300_000
  /// A handler starves where it has waited this long, in nanoseconds, while the faulting thread did not run either.
  static let starvation: Int64 = 200_000
  private static let movesOfChase = 24

  init(isUnconditional: Bool) {
    self.isUnconditional = isUnconditional
    nextTrial = isUnconditional ? 1 : Self.faultsBeforeFirstTrial
  }

  /// Notes that a batch was served, and returns what the caller should do.
  ///
  /// - Parameters:
  ///   - now: the time after the batch was served, in monotonic nanoseconds.
  ///   - messages: the number of messages that one read brought.
  @inline(__always)
  mutating func served(at now: UInt64, messages: Int = 1) -> Advice {
    let interval = now &- latest
    latest = now
    intervals[served % Self.trialLength] = interval
    served += 1
    let isSlow = interval > 3 &* usual
    // `usual` rises slowly and falls fast. It thus stays near the interval of most faults while handler and faulting
    // thread are together.
    usual = isSlow || interval > usual ? usual &+ usual / 64 &+ 1 : (usual &* 7 &+ interval) / 8
    // A program that asks for `withFaultingThread` gets it, whatever that costs.
    if !isUnconditional, let advice = servedCrowd(messages) { return advice }
    let isDue = looks.isDue(isSlow: isSlow)
    if isIdle { return servedIdle(interval, isDue) }
    if served >= nextTrial { return .tryIdle }
    return isDue ? .look : .goOn
  }

  /// Returns what the caller should do while a crowd of threads faults; nil while there is no crowd.
  @inline(__always)
  private mutating func servedCrowd(_ messages: Int) -> Advice? {
    switch crowd.served(messages: messages) {
    case .none: return nil
    case .present: return isIdle ? .leave : .goOn
    case .ended:
      looks = LookSchedule()
      postpone()
      return nil
    }
  }

  @inline(__always)
  private mutating func servedIdle(_ interval: UInt64, _ isDue: Bool) -> Advice {
    if isTrial, served == Self.settling + Self.trialLength {
      isTrial = false
      guard isUnconditional || ordinaryMedian == 0 || median() < ordinaryMedian / 5 * 4 else { return .leave }
      patience = Self.firstPatience
    }
    return isDue || interval > Self.longPause ? .check : .goOn
  }

  /// Notes that the thread under `SCHED_IDLE` begins to serve.
  mutating func began() {
    ordinaryMedian = served < Self.trialLength ? 0 : median()
    isIdle = true
    isTrial = true
    start()
  }

  /// Notes that the thread under `SCHED_IDLE` has handed over. The next trial comes after more faults than the last
  /// one.
  mutating func left() {
    isIdle = false
    start()
    postpone()
    patience = min(patience * 4, Self.largestPatience)
  }

  /// Notes that the handler cannot have a thread under `SCHED_IDLE`.
  mutating func giveUpIdle() {
    left()
    nextTrial = .max
  }

  private mutating func start() {
    served = 0
    looks = LookSchedule()
    recentMoves = 0
  }

  /// Puts off the next trial, because a trial makes no sense now.
  mutating func postpone() { nextTrial = served + patience }

  /// Notes what a look in the usual class found: whether the faulting thread was on another CPU than the last time.
  mutating func looked(moved: Bool) {
    count(move: moved)
    // Following a thread that moves all the time would cost a look for each fault and gain nothing.
    looks.looked(moved: moved && !isChase)
  }

  /// Notes what a check found, and returns what the caller should do.
  ///
  /// - Parameters:
  ///   - starvedNanoseconds: the time for which the handler waited while the faulting thread did not run either.
  ///   - moved: whether the faulting thread was on another CPU than the last time.
  mutating func checked(starvedNanoseconds: Int64, moved: Bool) -> Advice {
    guard starvedNanoseconds < Self.starvation else { return .leave }
    count(move: moved)
    looks.looked(moved: moved)
    return isChase ? .leave : .goOn
  }

  private mutating func count(move: Bool) {
    recentMoves = move ? min(recentMoves + 4, 2 * Self.movesOfChase) : max(0, recentMoves - 1)
  }

  /// Whether the faulting thread moves all the time: threads on several CPUs fault by turns, or the scheduler keeps
  /// moving one thread.
  private var isChase: Bool { recentMoves > Self.movesOfChase }

  private mutating func median() -> UInt64 {
    intervals.sort()
    return intervals[intervals.count / 2]
  }
}

/// When to look where a faulting thread runs: after 1, 2, 4 and up to 256 batches as long as the thread stays on its
/// CPU, and after 1 batch again when it has moved. A look costs as much as a fault. If looks came more often than
/// once in 256 batches, the slowest hundredth of the faults would show them.
struct LookSchedule {
  private var distance = 1
  private var left = 1

  private static let largestDistance = 256

  /// Counts a batch, and returns whether a look is due.
  ///
  /// - Parameter isSlow: whether the batch took much longer than usual. Two slow batches make a look due, because the
  ///   thread may have moved.
  @inline(__always)
  mutating func isDue(isSlow: Bool = false) -> Bool {
    left -= isSlow ? (distance + 1) / 2 : 1
    return left <= 0
  }

  mutating func looked(moved: Bool) {
    distance = moved ? 1 : min(distance * 2, Self.largestDistance)
    left = distance
  }
}

/// Finds out whether so many threads fault at once that it makes no sense to follow one of them. A handler that goes
/// to the CPU of one such thread interrupts another one there, and leaves a CPU without work that the scheduler would
/// have used.
struct CrowdGauge {
  enum Finding: Hashable {
    case none, present
    /// There was a crowd up to this batch.
    case ended
  }

  private var level = 0
  private var isPresent = false

  /// A read with this many messages shows that as many threads waited at once. On two CPUs, following was still
  /// faster with three threads, and slower with four.
  private static let largeBatch = 4
  /// How much one large batch raises the level. A crowd brings few large batches where its handler keeps up: about
  /// one of thirty, with four threads that fault.
  private static let rise = 32
  /// The crowd begins above this level, with three large batches close together. A single one can be an accident,
  /// such as threads that start at the same time.
  private static let beginning = 64
  /// The highest level. After this many batches without a large one the crowd has ended.
  private static let highest = 256

  @inline(__always)
  mutating func served(messages: Int) -> Finding {
    level = messages >= Self.largeBatch ? min(level + Self.rise, Self.highest) : max(0, level - 1)
    if isPresent {
      isPresent = level > 0
      return isPresent ? .present : .ended
    }
    isPresent = level > Self.beginning
    return isPresent ? .present : .none
  }
}
