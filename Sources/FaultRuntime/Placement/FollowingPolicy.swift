/// Decides how the handler follows the faulting thread, from the times at which faults were served: under `SCHED_IDLE` where
/// a CPU is free, and in the usual class otherwise. Pure: clocks, looks and moves are the caller's.
struct FollowingPolicy {
  /// What the caller should do after a batch of faults.
  enum Advice: Hashable {
    case goOn
    /// Go where the faulting thread runs, and call `looked`.
    case look
    /// See whether a CPU is free, and if so hand over to the thread under `SCHED_IDLE`; else call `postpone`.
    case tryIdle
    /// See whether the handler had to wait for its CPU and where the faulting thread runs, and call `checked`.
    case check
    /// Hand over to the thread in the usual class.
    case leave
  }

  /// Keeps `SCHED_IDLE` without comparing, unless it starves.
  let isUnconditional: Bool
  private(set) var isIdle = false

  private var served = 0
  private var nextTrial: Int
  private var patience = firstPatience
  private var latest: UInt64 = 0
  private var intervals = [UInt64](repeating: 0, count: trialLength)
  /// What it took in the usual class; 0 where that is not known yet.
  private var ordinaryMedian: UInt64 = 0
  private var isTrial = false
  private var looks = LookSchedule()
  private var recentMoves = 0
  private var crowd = CrowdGauge()
  private var usual: UInt64 = 10_000

  private static let trialLength = 32
  /// Faults on a fresh CPU that do not count: the faulting thread finds its place.
  private static let settling = 16
  /// For fewer faults a second thread does not pay.
  private static let faultsBeforeFirstTrial = 4
  private static let firstPatience = 256
  private static let largestPatience = 4096
  /// A pause this long is looked into at once: it may have been a wait for the CPU.
  private static let longPause: UInt64 = 300_000
  /// Waiting this long while the faulting thread did not run either is starving.
  static let starvation: Int64 = 200_000
  private static let movesOfChase = 24

  init(isUnconditional: Bool) {
    self.isUnconditional = isUnconditional
    nextTrial = isUnconditional ? 1 : Self.faultsBeforeFirstTrial
  }

  /// A batch that one read brought, with so many messages, was served at `now`, in monotonic nanoseconds.
  @inline(__always)
  mutating func served(at now: UInt64, messages: Int = 1) -> Advice {
    let interval = now &- latest
    latest = now
    intervals[served % Self.trialLength] = interval
    served += 1
    let isSlow = interval > 3 &* usual
    // Creeps up and comes down fast: what most faults take where handler and thread are together.
    usual = isSlow || interval > usual ? usual &+ usual / 64 &+ 1 : (usual &* 7 &+ interval) / 8
    // Who asks for it is followed whatever it costs.
    if !isUnconditional, let advice = servedCrowd(messages) { return advice }
    let isDue = looks.isDue(isSlow: isSlow)
    if isIdle { return servedIdle(interval, isDue) }
    if served >= nextTrial { return .tryIdle }
    return isDue ? .look : .goOn
  }

  /// What to do while a crowd faults; nil while there is none.
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

  /// The thread under `SCHED_IDLE` has begun.
  mutating func began() {
    ordinaryMedian = served < Self.trialLength ? 0 : median()
    isIdle = true
    isTrial = true
    start()
  }

  /// It has handed over. The next trial comes after more faults than the last one did.
  mutating func left() {
    isIdle = false
    start()
    postpone()
    patience = min(patience * 4, Self.largestPatience)
  }

  /// There is no thread under `SCHED_IDLE` to be had.
  mutating func giveUpIdle() {
    left()
    nextTrial = .max
  }

  private mutating func start() {
    served = 0
    looks = LookSchedule()
    recentMoves = 0
  }

  /// Trying makes no sense now.
  mutating func postpone() { nextTrial = served + patience }

  /// What a look in the usual class found: whether the faulting thread was on another CPU than the last time.
  mutating func looked(moved: Bool) {
    count(move: moved)
    // A chase costs a look for each fault and gains nothing.
    looks.looked(moved: moved && !isChase)
  }

  /// What a check found: the time that the handler waited while the faulting thread did not run either, and whether that
  /// thread was on another CPU than the last time.
  mutating func checked(starvedNanoseconds: Int64, moved: Bool) -> Advice {
    guard starvedNanoseconds < Self.starvation else { return .leave }
    count(move: moved)
    looks.looked(moved: moved)
    return isChase ? .leave : .goOn
  }

  private mutating func count(move: Bool) {
    recentMoves = move ? min(recentMoves + 4, 2 * Self.movesOfChase) : max(0, recentMoves - 1)
  }

  /// Threads that fault on several CPUs by turns, or one that the scheduler throws about.
  private var isChase: Bool { recentMoves > Self.movesOfChase }

  private mutating func median() -> UInt64 {
    intervals.sort()
    return intervals[intervals.count / 2]
  }
}

/// When to look where a faulting thread is: after 1, 2, 4 and up to 256 batches as long as it stays put, and after 1 again where
/// it has moved. A look costs as much as a fault, so that looking more often would be seen in one fault of a hundred.
struct LookSchedule {
  private var distance = 1
  private var left = 1

  private static let largestDistance = 256

  /// - Parameter isSlow: whether the batch took much longer than usual: two of those are reason enough, because the thread
  ///   may have moved.
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

/// Whether so many threads fault at once that there is nobody to follow. A handler that goes to the CPU of one of them
/// interrupts the others there, and leaves a CPU without work that the scheduler would have used.
struct CrowdGauge {
  enum Finding: Hashable {
    case none, present
    /// There was one up to now.
    case ended
  }

  private var level = 0
  private var isPresent = false

  /// So many messages in one read show that as many threads waited at once. On two CPUs following was still faster with
  /// three threads, and slower with four.
  private static let largeBatch = 4
  /// A crowd whose handler keeps up brings few such batches: about one of thirty where four threads fault.
  private static let rise = 32
  /// Three large batches close together. One can be an accident: threads that start at the same time.
  private static let beginning = 64
  /// So many batches without a large one are the end of the crowd.
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
