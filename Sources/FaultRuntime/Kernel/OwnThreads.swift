internal import CUFFD
internal import Synchronization

/// The numbers of the runtime's own threads, as faults carry them (`UFFD_FEATURE_THREAD_ID`). Asked about every fault, so that
/// a fault of a thread that serves faults is noticed.
final class OwnThreads: Sendable {
  private static let capacity = 256
  private let numbers = InlineArray<256, Atomic<UInt32>> { _ in Atomic(0) }
  private let used = Atomic<Int>(0)
  /// Those that have been added and not removed.
  private let count = Monitor(0)
  private let lowest = Atomic<UInt32>(.max)
  private let highest = Atomic<UInt32>(0)

  /// Adds the calling thread. Beyond 256 of them nobody is noticed.
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

  /// Removes the calling thread, whose number may be given to another.
  func removeCaller() {
    let number = cuffd_thread_id()
    count.withLock { count in
      for slot in 0..<used.load(ordering: .relaxed) where numbers[slot].load(ordering: .relaxed) == number {
        numbers[slot].store(0, ordering: .relaxed)
        count -= 1
      }
    }
  }

  /// Whether the thread is one of them. As a rule two comparisons: threads of the program are older or younger.
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
