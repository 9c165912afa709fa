internal import CUFFD

/// The ranges of a region that threads use at the moment. Code that takes pages away skips pinned pages, and closing
/// waits until all pins have ended.
final class RegionPins: Sendable {
  private struct Pin: Sendable {
    var range: Range<Int>
    /// The thread that made the pin.
    var thread: UInt64
  }

  private struct State: Sendable {
    /// A range that is pinned twice is listed twice.
    var pins: [Pin] = []
    var isClosed = false
  }

  private let state = Monitor(State())

  /// Pins a range of offsets. Takes a lock. O(1) before closing begins, and O(pins) afterwards.
  ///
  /// - Returns: false if closing has begun and the calling thread has no other pin. A thread with a pin may make
  ///   more, because closing waits for that thread in any case.
  func pin(_ range: Range<Int>) -> Bool {
    let thread = cuffd_thread_token()
    return state.withLock { state in
      guard !state.isClosed || state.pins.contains(where: { $0.thread == thread }) else { return false }
      state.pins.append(Pin(range: range, thread: thread))
      return true
    }
  }

  /// Ends one pin of `range`. The thread that made the pin has to call this; otherwise the program ends with an error.
  func unpin(_ range: Range<Int>) {
    let thread = cuffd_thread_token()
    let isLast = state.withLock { state in
      guard let index = state.pins.lastIndex(where: { $0.range == range && $0.thread == thread }) else {
        fatalError("FaultRuntime: this thread has not pinned \(range)")
      }
      state.pins.swapAt(index, state.pins.count - 1)
      state.pins.removeLast()
      return state.pins.isEmpty && state.isClosed
    }
    if isLast { state.announce() }
  }

  /// Returns whether a byte of `range` is pinned. O(pins).
  func intersects(_ range: Range<Int>) -> Bool {
    state.withLock { $0.pins.contains { $0.range.overlaps(range) } }
  }

  /// The number of pins.
  var count: Int { state.withLock { $0.pins.count } }

  /// Lets no thread make its first pin from now on, and waits until all pins have ended or the time is up.
  func close(nanoseconds: UInt64) {
    _ = state.wait(nanoseconds: nanoseconds) { state in
      state.isClosed = true
      return state.pins.isEmpty ? true : nil
    }
  }
}
