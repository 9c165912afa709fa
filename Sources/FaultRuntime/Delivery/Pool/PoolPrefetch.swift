internal import CUFFD
internal import Synchronization

/// A range that the pool fills between faults, one step at a time. The prefetch is submitted again only when a step
/// has ended or was withdrawn, so at most one thread changes it at a time.
final class PoolPrefetch: @unchecked Sendable {
  // Safe to share: the lock of the pool hands `offset` and `failure` on from one step to the next, and `done` hands
  // them to the thread that waits.
  let region: Region
  fileprivate(set) var offset: Int
  fileprivate(set) var failure: BulkFiller.Failure?
  let done = OneShotEvent()
  /// The time from which the timeout of the region counts for the current step, in monotonic nanoseconds: the time at
  /// which the prefetch was asked for, or at which its last step ended. It is 0 where no thread waits for the prefetch,
  /// and where the region has no timeout. Like `offset`, it is handed on from one step to the next.
  private(set) var askedAt: UInt64 = 0

  private let currentEnd: Atomic<Int>
  private let isActive: Atomic<Bool>
  /// Whether the prefetch fills pages that a sequential reader may touch next. No thread waits for such a prefetch.
  let isSpeculative: Bool

  /// Makes a prefetch of a range that a thread waits for.
  init(_ region: Region, _ range: Range<Int>) {
    self.region = region
    offset = range.lowerBound
    currentEnd = Atomic(range.upperBound)
    isActive = Atomic(true)
    isSpeculative = false
    beginStep()
  }

  /// Makes a prefetch of pages that a sequential reader may touch next. Its range is empty until `goOn` is called.
  init(aheadOfReaderOf region: Region) {
    self.region = region
    offset = 0
    currentEnd = Atomic(0)
    isActive = Atomic(false)
    isSpeculative = true
  }

  var end: Int { currentEnd.load(ordering: .relaxed) }

  private func beginStep() {
    askedAt = isSpeculative || region.timeout == 0 ? 0 : cuffd_monotonic_nanoseconds()
  }

  /// Whether the current step has taken longer than the region's timeout, whether it waits for a thread, for another
  /// request or for the provider.
  func isOverdue(at now: UInt64) -> Bool { askedAt != 0 && now > askedAt && now - askedAt > region.timeout }

  /// Sets the end of the range to `end`. If the prefetch has ended, it begins again at `start`; otherwise it goes on
  /// from where it is. Returns whether the caller has to submit it.
  func goOn(from start: Int, to end: Int) -> Bool {
    currentEnd.store(end, ordering: .sequentiallyConsistent)
    guard !isActive.exchange(true, ordering: .sequentiallyConsistent) else { return false }
    offset = start
    return true
  }

  /// The result of a step.
  enum Progress {
    /// The step has reached this offset, and more is left to do.
    case goesOn(Int)
    /// The prefetch has ended at this offset. The thread must not read `offset` itself any more, because another thread
    /// may have begun the prefetch again.
    case ended(Int)
    /// The step was given up, and `giveUp` has done what follows from that.
    case withdrawn
  }

  /// Makes one step from `start` up to `limit`. The start is a parameter, although it is the same as `offset`: the
  /// thread that withdraws the permit may be changing `offset` already.
  func step(
    _ filler: inout BulkFiller, from start: Int, to limit: Int, forbidden: RegionGroup, permit: AnswerPermit,
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
      guard !hasEnded else { return .ended(reached) }
      // The kernel may have put off the pages, which is no progress.
      if reached > start { beginStep() }
      return .goesOn(reached)
    } catch {
      guard !(error.cause is WithdrawnError), (try? permit.beginPlacing()) != nil else { return .withdrawn }
      end(with: error)
      return .ended(start)
    }
  }

  private func end(with error: BulkFiller.Failure) {
    // No thread waits for pages ahead of a reader. A thread that touches one of them asks again, and gets its own
    // error.
    failure = isSpeculative ? nil : error
    isActive.store(false, ordering: .sequentiallyConsistent)
  }

  /// Ends the prefetch for the thread that waits, because a step up to `limit` was withdrawn; the withdrawn call may
  /// still be under way. If every page of that step is there after all, the prefetch goes on behind them. Returns
  /// whether it does, and the caller has to submit it.
  func giveUp(_ cause: ResolutionError, at limit: Int) -> Bool {
    let pageByteCount = region.pageSize.bytes
    // The step may have begun with pages that were there already.
    while offset < limit, region.memory.isThere(region.address(of: offset)) {
      offset += pageByteCount
    }
    if offset < limit {
      end(with: BulkFiller.Failure(cause: cause, page: region.address(of: offset)))
    } else if !hasEnded {
      beginStep()
      return true
    }
    done.signal()
    return false
  }

  /// Whether nothing is left to do. A thread that gets true must not use `offset` any more, because another thread
  /// may have begun the prefetch again.
  var hasEnded: Bool {
    let reached = offset
    guard reached >= currentEnd.load(ordering: .sequentiallyConsistent) else { return false }
    isActive.store(false, ordering: .sequentiallyConsistent)
    // The end may have been moved just now.
    guard reached < currentEnd.load(ordering: .sequentiallyConsistent) else { return true }
    return isActive.exchange(true, ordering: .sequentiallyConsistent)
  }
}
