import FaultRuntime
import Glibc
import Synchronization

/// Threads that touch their shares of the pages on command. They start before the counting begins and end after it,
/// because starting and ending a thread allocates.
@safe
// Safe to share: everything that is not atomic is written only in `init`, and the barrier synchronises its own
// accesses.
final class TouchCrew: @unchecked Sendable {
  private let base: UnsafeRawPointer
  private let order: TouchOrder
  private let warmUpCount: Int
  private let threadCount: Int
  private let barrier: UnsafeMutablePointer<pthread_barrier_t>
  private let wrong = Atomic<Int>(0)
  private var threads: [BenchmarkThread] = []

  /// - Parameter warmUp: The number of units of `order` that ``warmUp()`` touches; ``touch()`` takes the rest.
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

  /// Lets the threads touch the first units, and waits until they are done.
  func warmUp() { meetTwice() }

  /// Lets the threads touch the rest, and waits until they are done. Allocates nothing.
  func touch() { meetTwice() }

  /// Ends the threads. Throws an error if a thread has read a wrong byte.
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
      // The threads that already run wait at the barrier for ever, so this cannot be undone.
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
