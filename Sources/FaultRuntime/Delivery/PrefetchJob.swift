/// A range that somebody wants filled, as a handler thread works it off between faults. The fields belong to that thread
/// until it signals `done`, and to the one who waits after that.
final class PrefetchJob: @unchecked Sendable {
  // Safe to share: handed over by the lock of the handler's control, and back by `done`.
  let region: RegionCore
  let end: Int
  var offset: Int
  var failure: BulkFiller.Failure?
  let done = OneShotEvent()

  init(region: RegionCore, from offset: Int, to end: Int) {
    self.region = region
    self.offset = offset
    self.end = end
  }

  /// One step; true where the job has ended.
  func step(
    _ filler: inout BulkFiller, _ uffd: borrowing Userfaultfd, forbidden: RegionTable?, counting count: (Int) -> Void
  ) -> Bool {
    guard !region.isClosing else {
      failure = BulkFiller.Failure(
        cause: ResolutionError.regionClosed, page: region.range.start &+ UInt(bitPattern: offset))
      return true
    }
    do throws(BulkFiller.Failure) {
      offset = try filler.step(region, from: offset, to: end, uffd, forbidden: forbidden, counting: count)
      return offset >= end
    } catch {
      failure = error
      return true
    }
  }
}
