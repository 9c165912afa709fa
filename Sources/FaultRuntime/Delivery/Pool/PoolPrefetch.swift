internal import Synchronization

/// A range that the pool fills between faults, a step at a time. One thread works on it at a time, because it is submitted
/// again only when a step has ended.
final class PoolPrefetch: @unchecked Sendable {
  // Safe to share: `offset` and `failure` are handed on by the lock of the pool, and to the one who waits by `done`.
  let region: Region
  fileprivate(set) var offset: Int
  fileprivate(set) var failure: BulkFiller.Failure?
  let done = OneShotEvent()
  /// When it was submitted last, in monotonic nanoseconds; 0 where its region has no deadline. The lock of the pool protects it.
  var waitingSince: UInt64 = 0

  private let currentEnd: Atomic<Int>
  private let isActive: Atomic<Bool>
  /// Whether it is for a reader who may come, not for somebody who waits.
  let isSpeculative: Bool

  /// What somebody waits for.
  init(_ region: Region, _ range: Range<Int>) {
    self.region = region
    offset = range.lowerBound
    currentEnd = Atomic(range.upperBound)
    isActive = Atomic(true)
    isSpeculative = false
  }

  /// What a sequential reader may want next; nothing yet.
  init(aheadOfReaderOf region: Region) {
    self.region = region
    offset = 0
    currentEnd = Atomic(0)
    isActive = Atomic(false)
    isSpeculative = true
  }

  var end: Int { currentEnd.load(ordering: .relaxed) }

  /// Lets it go on from `start`, or up to `end` where it is on its way. True where it has to be submitted.
  func goOn(from start: Int, to end: Int) -> Bool {
    currentEnd.store(end, ordering: .sequentiallyConsistent)
    guard !isActive.exchange(true, ordering: .sequentiallyConsistent) else { return false }
    offset = start
    return true
  }

  /// What a step came to.
  enum Progress {
    /// Where it got to. Who has ended it must not look at `offset` any more: it may be going on elsewhere.
    case goesOn(Int)
    case ended(Int)
    /// Somebody has given the step up, and answered for it.
    case withdrawn
  }

  /// One step from `start`, which is where it is, up to `limit`. Whoever withdraws the permit may be changing that already.
  func step(
    _ filler: inout BulkFiller, from start: Int, to limit: Int, forbidden: AddressTable, permit: AnswerPermit,
    counting counter: some FillCounter
  ) -> Progress {
    do throws(BulkFiller.Failure) {
      guard !region.isClosing else {
        throw BulkFiller.Failure(
          cause: ResolutionError.regionClosed, page: region.address(of: start))
      }
      let reached = try filler.step(
        region, from: start, to: limit, forbidden: forbidden, permit: permit, counting: counter)
      guard (try? permit.beginPlacing()) != nil else { return .withdrawn }
      if isSpeculative {
        region.streams.move(goingOnAt: start / region.requestUnit, to: reached / region.requestUnit)
      }
      offset = reached
      return hasEnded ? .ended(reached) : .goesOn(reached)
    } catch {
      guard !(error.cause is WithdrawnError), (try? permit.beginPlacing()) != nil else { return .withdrawn }
      end(with: error)
      return .ended(start)
    }
  }

  private func end(with error: BulkFiller.Failure) {
    // What is ahead of a reader is the business of whoever touches it.
    failure = isSpeculative ? nil : error
    isActive.store(false, ordering: .sequentiallyConsistent)
  }

  /// Ends it for who waits, while a step up to `limit` that was withdrawn may still be under way. True where every page of that
  /// step is there, so that it goes on behind them: it has to be submitted.
  func giveUp(_ cause: ResolutionError, at limit: Int) -> Bool {
    let pageByteCount = region.pageSize.bytes
    // A step begins with pages that are there already.
    while offset < limit, region.memory.isThere(region.address(of: offset)) {
      offset += pageByteCount
    }
    if offset < limit {
      end(with: BulkFiller.Failure(cause: cause, page: region.address(of: offset)))
    } else if !hasEnded {
      return true
    }
    done.signal()
    return false
  }

  /// Whether nothing is left to do. Who is told so must not work on it any more: it may be going on elsewhere.
  var hasEnded: Bool {
    let reached = offset
    guard reached >= currentEnd.load(ordering: .sequentiallyConsistent) else { return false }
    isActive.store(false, ordering: .sequentiallyConsistent)
    // The end may have been moved just now.
    guard reached < currentEnd.load(ordering: .sequentiallyConsistent) else { return true }
    return isActive.exchange(true, ordering: .sequentiallyConsistent)
  }
}
