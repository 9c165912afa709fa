import FaultRuntime
import Glibc
import Synchronization

/// Threads that touch their shares of the pages when they are told to. They are started before anything is counted and end
/// after it, because starting and ending a thread allocates.
@safe
// Safe to share: what is not atomic is never written after `init`, and the barrier locks itself.
final class TouchCrew: @unchecked Sendable {
  private let base: UnsafeRawPointer
  private let order: TouchOrder
  private let warmUpCount: Int
  private let threadCount: Int
  private let barrier: UnsafeMutablePointer<pthread_barrier_t>
  private let wrong = Atomic<Int>(0)
  private var threads: [BenchmarkThread] = []

  /// - Parameter warmUp: how many units of `order` are touched by ``warmUp()``; ``touch()`` takes the rest.
  init(threads count: Int, base: UnsafeRawPointer, order: TouchOrder, warmUp: Int) throws {
    unsafe self.base = base
    self.order = order
    warmUpCount = warmUp
    threadCount = count
    unsafe barrier = .allocate(capacity: 1)
    unsafe pthread_barrier_init(barrier, nil, UInt32(count + 1))
    for index in 0..<count { threads.append(start(index)) }
  }

  deinit {
    unsafe pthread_barrier_destroy(barrier)
    unsafe barrier.deallocate()
  }

  /// Has the first pages touched, and returns when they all are.
  func warmUp() { meetTwice() }

  /// Has the rest touched, and returns when they all are. Allocates nothing.
  func touch() { meetTwice() }

  /// Ends the threads.
  func finish() throws {
    meet()
    for thread in threads { thread.join() }
    let wrong = wrong.load(ordering: .relaxed)
    if wrong > 0 { throw BenchmarkError("\(wrong) touched bytes were wrong") }
  }

  private func meet() { unsafe pthread_barrier_wait(barrier) }

  private func meetTwice() {
    meet()
    meet()
  }

  private func start(_ index: Int) -> BenchmarkThread {
    do {
      return try BenchmarkThread { [self] in work(index) }
    } catch {
      // The threads that run wait at the barrier for ever, so there is no way back.
      Diagnostics.failImmediately("\(error)")
    }
  }

  private func work(_ index: Int) {
    for range in [0..<warmUpCount, warmUpCount..<order.units.count] {
      let first = range.lowerBound + range.count * index / threadCount
      let end = range.lowerBound + range.count * (index + 1) / threadCount
      meet()
      do {
        try unsafe order.touch(base, first..<end)
      } catch {
        wrong.wrappingAdd(error.count, ordering: .relaxed)
      }
      meet()
    }
    meet()
  }
}
