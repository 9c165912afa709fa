/// Decides when the handler follows the faulting thread, from the times at which faults were served. Pure: clocks, looks
/// and moves are the caller's.
struct FollowingPolicy {
  /// What the caller should do after a batch of faults.
  enum Advice: Hashable {
    case goOn
    /// See whether a CPU is free, and if so hand over to the thread that follows; else call `postpone`.
    case tryFollowing
    /// See whether the handler had to wait for its CPU and where the faulting thread runs, and call `checked`.
    case check
    /// Hand over to the thread in the usual class.
    case leave
  }

  /// Follows wherever it can, without comparing.
  let isUnconditional: Bool
  private(set) var isFollowing = false

  private var served = 0
  private var nextTrial: Int
  private var patience = firstPatience
  private var latest: UInt64 = 0
  private var intervals = [UInt64](repeating: 0, count: trialLength)
  private var ordinaryMedian: UInt64 = 0
  private var isTrial = false
  private var looks = LookSchedule()
  private var recentMoves = 0

  private static let trialLength = 32
  /// Faults on a fresh CPU that do not count: the faulting thread finds its place.
  private static let settling = 16
  private static let firstPatience = 256
  private static let largestPatience = 4096
  /// A pause this long is looked into at once: it may have been a wait for the CPU.
  private static let longPause: UInt64 = 300_000
  /// Waiting this long while the faulting thread did not run either is starving.
  static let starvation: Int64 = 200_000

  init(isUnconditional: Bool) {
    self.isUnconditional = isUnconditional
    nextTrial = isUnconditional ? 1 : Self.trialLength
  }

  /// A batch was served at `now`, in monotonic nanoseconds.
  @inline(__always)
  mutating func served(at now: UInt64) -> Advice {
    let interval = now &- latest
    latest = now
    intervals[served % Self.trialLength] = interval
    served += 1
    return isFollowing ? following(interval) : served >= nextTrial ? .tryFollowing : .goOn
  }

  @inline(__always)
  private mutating func following(_ interval: UInt64) -> Advice {
    if isTrial, served == Self.settling + Self.trialLength {
      isTrial = false
      guard isUnconditional || median() < ordinaryMedian / 5 * 4 else { return .leave }
      patience = Self.firstPatience
    }
    return looks.isDue() || interval > Self.longPause ? .check : .goOn
  }

  /// The follower has begun.
  mutating func began() {
    ordinaryMedian = median()
    isFollowing = true
    isTrial = true
    served = 0
    looks = LookSchedule()
    recentMoves = 0
  }

  /// The follower has handed over. The next trial comes after more faults than the last one did.
  mutating func left() {
    isFollowing = false
    served = 0
    postpone()
    patience = min(patience * 4, Self.largestPatience)
  }

  /// Following makes no sense now.
  mutating func postpone() { nextTrial = served + patience }

  /// What a check found: the time that the handler waited while the faulting thread did not run either, and whether that
  /// thread was on another CPU than the last time.
  mutating func checked(starvedNanoseconds: Int64, moved: Bool) -> Advice {
    guard starvedNanoseconds < Self.starvation else { return .leave }
    looks.looked(moved: moved)
    recentMoves = moved ? recentMoves + 4 : max(0, recentMoves - 1)
    // Threads that fault on several CPUs by turns, or one that the scheduler throws about.
    return recentMoves > 24 ? .leave : .goOn
  }

  private mutating func median() -> UInt64 {
    intervals.sort()
    return intervals[intervals.count / 2]
  }
}

/// When to look where a faulting thread is: after 1, 2, 4 and up to 64 batches as long as it stays put, and after 1 again where
/// it has moved. A look costs as much as half a fault.
struct LookSchedule {
  private var distance = 1
  private var left = 1

  private static let largestDistance = 64

  @inline(__always)
  mutating func isDue() -> Bool {
    left -= 1
    return left <= 0
  }

  mutating func looked(moved: Bool) {
    distance = moved ? 1 : min(distance * 2, Self.largestDistance)
    left = distance
  }
}
