internal import CUFFD

/// The handlers of a runtime. Each region is given to one of them.
///
/// Where the program does not say how many there are, there is one handler at first, and one more whenever a region
/// is opened while each handler has one already, up to the number of CPUs and up to four. Two handlers can serve two
/// regions at once, but a single region gains nothing from a second handler.
final class Handlers: DeliveryService {
  private let limit: Int
  private let isFixed: Bool
  private let make: @Sendable (Int, Watchdog) throws(FaultRuntimeError) -> EventLoop
  private let state: Monitor<State>
  let watchdog = Watchdog()

  private struct State: Sendable {
    var loops: [EventLoop]
    var dealt = 0
    /// Whether the host has refused the userfaultfd of another handler. A further try would be refused as well, and
    /// finding out why has its cost.
    var isRefused = false
  }

  private static let automaticLimit = 4

  /// Starts `count` handlers, or one if `count` is nil.
  ///
  /// - Parameter make: makes the handler with a number, which the given watchdog looks after.
  init(
    count: Int?, _ make: @escaping @Sendable (Int, Watchdog) throws(FaultRuntimeError) -> EventLoop
  ) throws(FaultRuntimeError) {
    self.make = make
    isFixed = count != nil
    limit = count ?? max(1, min(Int(cuffd_allowed_cpu_count()), Self.automaticLimit))
    var loops: [EventLoop] = []
    do throws(FaultRuntimeError) {
      for number in 0..<(count ?? 1) { loops.append(try make(number, watchdog)) }
    } catch {
      Self.stop(loops, within: SharedTimeout(nanoseconds: loops.first?.closeTimeout ?? 0))
      throw error
    }
    state = Monitor(State(loops: loops))
    watchdog.add(loops)
  }

  var all: [EventLoop] { state.withLock { $0.loops } }

  var delivery: Delivery { .eventLoop }
  var descriptor: DescriptorKind? { all[0].descriptor }
  var availableFeatures: UserfaultfdFeatures { all[0].uffd.available }

  var statistics: FaultStatistics {
    var sum = FaultStatistics()
    for handler in all { sum.add(handler.statistics) }
    return sum
  }

  func takeServer() -> any RegionServer { next() }

  /// Returns the handler for one more region, and counts that region as one of the handler's until
  /// ``release(_:)`` is called.
  func next() -> EventLoop {
    state.withLock { state in
      defer { state.dealt += 1 }
      var loop = state.loops[state.dealt % state.loops.count]
      if !isFixed {
        loop = state.loops.min { $0.regionCount < $1.regionCount }!
        // If another handler cannot be made, the existing ones serve its regions as well.
        if loop.regionCount > 0, state.loops.count < limit, !state.isRefused {
          do throws(FaultRuntimeError) {
            let another = try make(state.loops.count, watchdog)
            state.loops.append(another)
            watchdog.add([another])
            loop = another
          } catch {
            // An errno is there only for a cause within this process, which may go away.
            state.isRefused = error.code == .userfaultfdUnavailable && error.errno == nil
          }
        }
      }
      loop.regionBegins()
      return loop
    }
  }

  func release(_ server: any RegionServer) {
    for loop in all where loop === server { loop.regionEnded() }
  }

  func stop(nanoseconds: UInt64) {
    watchdog.stop(nanoseconds: nanoseconds)
    Self.stop(all, within: SharedTimeout(nanoseconds: nanoseconds))
  }

  private static func stop(_ loops: [EventLoop], within timeout: SharedTimeout) {
    // A handler that is stuck takes no time from the others, which end meanwhile.
    var ending = loops.filter { !$0.hasLeftBehind }
    for loop in ending { loop.beginStopping() }
    let removals = loops.filter(\.hasLeftBehind).map { (loop: $0, removal: $0.beginRemovingLeftBehind()) }
    for (loop, removal) in removals {
      if loop.finishRemoving(removal, within: timeout) {
        loop.beginStopping()
        ending.append(loop)
      } else {
        // A thread that touches the memory which is left would otherwise wait without end.
        _ = unsafe Unmanaged.passRetained(loop)
      }
    }
    for loop in ending { loop.finishStopping(within: timeout) }
  }
}
