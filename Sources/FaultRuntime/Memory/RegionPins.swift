/// The ranges of a region that threads use in a way that cannot meet a fault. Whatever takes pages away leaves pinned pages alone,
/// and closing waits for the end of all pins.
final class RegionPins: Sendable {
  private struct State: Sendable {
    /// One entry for each pin, so that a range that is pinned twice is there twice.
    var ranges: [Range<Int>] = []
    var isClosed = false
  }

  private let state = Monitor(State())

  /// Pins a range of offsets. Returns false where closing has begun. Takes a lock.
  func pin(_ range: Range<Int>) -> Bool {
    state.withLock { state in
      if !state.isClosed { state.ranges.append(range) }
      return !state.isClosed
    }
  }

  /// Ends one pin of `range`.
  func unpin(_ range: Range<Int>) {
    let isLast = state.withLock { state in
      guard let index = state.ranges.lastIndex(of: range) else { fatalError("FaultRuntime: \(range) was not pinned") }
      state.ranges.swapAt(index, state.ranges.count - 1)
      state.ranges.removeLast()
      return state.ranges.isEmpty && state.isClosed
    }
    if isLast { state.announce() }
  }

  /// Whether a byte of `range` is pinned. O(pins).
  func intersects(_ range: Range<Int>) -> Bool {
    state.withLock { $0.ranges.contains { $0.overlaps(range) } }
  }

  /// The number of pins.
  var count: Int { state.withLock { $0.ranges.count } }

  /// Permits no further pins, and waits until all have ended, or until the time is up.
  func close(nanoseconds: UInt64) {
    _ = state.wait(nanoseconds: nanoseconds) { state in
      state.isClosed = true
      return state.ranges.isEmpty ? true : nil
    }
  }
}
