internal import CUFFD

/// The handlers of a runtime, which regions are dealt out to.
///
/// Where the program does not say how many, there is one at first, and one more whenever a region is opened while each has one
/// already, up to the number of CPUs and to four: two handlers serve two regions at once, and one region gains nothing.
final class Handlers: Sendable {
  private let limit: Int
  private let isFixed: Bool
  private let make: @Sendable (Int) throws(FaultRuntimeError) -> EventLoop
  private let state: Monitor<State>

  private struct State: Sendable {
    var loops: [EventLoop]
    var dealt = 0
  }

  private static let automaticLimit = 4

  /// Starts `count` handlers, or the first one where that is nil.
  init(
    count: Int?, _ make: @escaping @Sendable (Int) throws(FaultRuntimeError) -> EventLoop
  ) throws(FaultRuntimeError) {
    self.make = make
    isFixed = count != nil
    limit = count ?? max(1, min(Int(cuffd_allowed_cpu_count()), Self.automaticLimit))
    var loops: [EventLoop] = []
    do throws(FaultRuntimeError) {
      for number in 0..<(count ?? 1) { loops.append(try make(number)) }
    } catch {
      for loop in loops { loop.stop() }
      throw error
    }
    state = Monitor(State(loops: loops))
  }

  var all: [EventLoop] { state.withLock { $0.loops } }

  /// The handler for one more region; `EventLoop.regionEnded` gives its place back.
  func next() -> EventLoop {
    state.withLock { state in
      defer { state.dealt += 1 }
      var loop = state.loops[state.dealt % state.loops.count]
      if !isFixed {
        loop = state.loops.min { $0.regionCount < $1.regionCount }!
        // A handler that cannot be had is one that is not needed: the others serve its regions as well.
        if loop.regionCount > 0, state.loops.count < limit, let another = try? make(state.loops.count) {
          state.loops.append(another)
          loop = another
        }
      }
      loop.regionBegins()
      return loop
    }
  }

  func stop() {
    for loop in all { loop.stop() }
  }
}
