/// Threads that use a region's memory in a way that cannot meet a fault. Closing waits for them.
final class RegionPins: Sendable {
  private struct State: Sendable {
    var count = 0
    var isClosed = false
  }

  private let state = Monitor(State())

  /// False where closing has begun.
  func pin() -> Bool {
    state.withLock { state in
      if !state.isClosed { state.count += 1 }
      return !state.isClosed
    }
  }

  func unpin() {
    let isLast = state.withLock { state in
      state.count -= 1
      return state.count == 0 && state.isClosed
    }
    if isLast { state.announce() }
  }

  /// How many are in.
  var count: Int { state.withLock { $0.count } }

  /// Lets nobody in from now on, and waits until all are out, or until the time is up.
  func close(nanoseconds: UInt64) {
    _ = state.wait(nanoseconds: nanoseconds) { state in
      state.isClosed = true
      return state.count == 0 ? true : nil
    }
  }
}
