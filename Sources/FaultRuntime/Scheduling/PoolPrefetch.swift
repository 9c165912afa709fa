internal import Synchronization

/// A range that the pool fills between faults, a step at a time. One thread works on it at a time, because it is submitted
/// again only when a step has ended.
final class PoolPrefetch: @unchecked Sendable {
  // Safe to share: `offset` and `failure` are handed on by the lock of the pool, and to the one who waits by `done`.
  let region: RegionCore
  fileprivate(set) var offset: Int
  fileprivate(set) var failure: BulkFiller.Failure?
  let done = OneShotEvent()

  private let currentEnd: Atomic<Int>
  private let isActive: Atomic<Bool>
  /// Whether it is for a reader who may come, not for somebody who waits.
  let isSpeculative: Bool

  /// What somebody waits for.
  init(_ region: RegionCore, _ range: Range<Int>) {
    self.region = region
    offset = range.lowerBound
    currentEnd = Atomic(range.upperBound)
    isActive = Atomic(true)
    isSpeculative = false
  }

  /// What a sequential reader may want next; nothing yet.
  init(aheadOfReaderOf region: RegionCore) {
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
    case goesOn, ended
    /// Somebody has given the step up, and answered for it.
    case withdrawn
  }

  /// One step up to `limit`.
  func step(
    _ filler: inout BulkFiller, to limit: Int, _ uffd: borrowing Userfaultfd, forbidden: RegionTable?,
    permit: AnswerPermit, counting count: (Int) -> Void
  ) -> Progress {
    do throws(BulkFiller.Failure) {
      guard !region.isClosing else {
        guard (try? permit.beginPlacing()) != nil else { return .withdrawn }
        throw BulkFiller.Failure(
          cause: ResolutionError.regionClosed, page: region.range.start &+ UInt(bitPattern: offset))
      }
      let reached = try filler.step(
        region, from: offset, to: limit, uffd, forbidden: forbidden, permit: permit, counting: count)
      guard (try? permit.beginPlacing()) != nil else { return .withdrawn }
      if isSpeculative {
        region.streams.move(goingOnAt: offset / region.requestUnit, to: reached / region.requestUnit)
      }
      offset = reached
    } catch {
      guard !(error.cause is WithdrawnError), (try? permit.beginPlacing()) != nil else { return .withdrawn }
      end(with: error)
      return .ended
    }
    return hasEnded ? .ended : .goesOn
  }

  private func end(with error: BulkFiller.Failure) {
    // What is ahead of a reader is the business of whoever touches it.
    failure = isSpeculative ? nil : error
    isActive.store(false, ordering: .sequentiallyConsistent)
  }

  /// Ends it for who waits, while a step that was withdrawn may still be under way.
  func giveUp(_ cause: ResolutionError) {
    end(with: BulkFiller.Failure(cause: cause, page: region.range.start &+ UInt(bitPattern: offset)))
    done.signal()
  }

  private var hasEnded: Bool {
    guard offset >= currentEnd.load(ordering: .sequentiallyConsistent) else { return false }
    isActive.store(false, ordering: .sequentiallyConsistent)
    // The end may have been moved just now.
    guard offset < currentEnd.load(ordering: .sequentiallyConsistent) else { return true }
    return isActive.exchange(true, ordering: .sequentiallyConsistent)
  }
}
