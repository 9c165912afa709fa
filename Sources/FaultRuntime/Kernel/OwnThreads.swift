internal import CUFFD
internal import Synchronization

/// The ids of the runtime's own threads, as the kernel reports them with a fault (`UFFD_FEATURE_THREAD_ID`). The
/// event loop looks up the thread of every fault here, so that it notices when a thread that serves faults has
/// faulted itself.
final class OwnThreads: Sendable {
  private static let capacity = 1024
  private let numbers = InlineArray<1024, Atomic<UInt32>> { _ in Atomic(0) }
  private let used = Atomic<Int>(0)
  /// The number of listed threads. Its lock also protects all changes of the list.
  private let count = Monitor(0)
  private let lowest = Atomic<UInt32>(.max)
  private let highest = Atomic<UInt32>(0)

  /// Adds the calling thread. If 1024 threads are listed already, this does nothing, and faults of the calling thread
  /// are taken for those of a thread of the program.
  func addCaller() {
    let number = cuffd_thread_id()
    count.withLock { count in
      let end = used.load(ordering: .relaxed)
      let slot = (0..<end).first { numbers[$0].load(ordering: .relaxed) == 0 } ?? end
      guard slot < Self.capacity else { return }
      numbers[slot].store(number, ordering: .relaxed)
      lowest.store(min(number, lowest.load(ordering: .relaxed)), ordering: .relaxed)
      highest.store(max(number, highest.load(ordering: .relaxed)), ordering: .relaxed)
      used.store(max(end, slot + 1), ordering: .releasing)
      count += 1
    }
  }

  /// Removes the calling thread. The kernel may give its id to another thread afterwards.
  func removeCaller() {
    let number = cuffd_thread_id()
    count.withLock { count in
      for slot in 0..<used.load(ordering: .relaxed) where numbers[slot].load(ordering: .relaxed) == number {
        numbers[slot].store(0, ordering: .relaxed)
        count -= 1
      }
    }
  }

  /// Returns whether the thread with the id `number` is listed. This usually takes only two comparisons, because most
  /// threads of the program started before or after all threads of the runtime, so that their ids are lower or
  /// higher.
  @inline(__always)
  func contains(_ number: UInt32) -> Bool {
    guard number >= lowest.load(ordering: .relaxed), number <= highest.load(ordering: .relaxed) else { return false }
    return isListed(number)
  }

  @inline(never)
  private func isListed(_ number: UInt32) -> Bool {
    (0..<used.load(ordering: .acquiring)).contains { numbers[$0].load(ordering: .relaxed) == number }
  }
}
