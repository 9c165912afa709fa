internal import CUFFD
internal import Synchronization

/// Limits how many mappings this process spends on regions of ``TwinMemory``. All runtimes share one budget.
///
/// Each run of open pages is a mapping of its own, and it divides the mapping around it in two, so a run costs two
/// mappings. The kernel limits the number of mappings of a process (`vm.max_map_count`).
final class MappingBudget: Sendable {
  /// The largest number of mappings. By default it is half of what the kernel permits, because the rest of the
  /// program needs mappings as well, for its threads and its own memory.
  private let limit: Int
  private let used = Atomic<Int>(0)
  private let ownerProcess = Atomic(cuffd_address_space())
  private let kept = Monitor<MappingReserve?>(nil)

  /// - Parameter limit: the number of mappings; half of `vm.max_map_count` if it is nil.
  init(limit: Int? = nil) { self.limit = limit ?? cuffd_mapping_limit() / 2 }

  /// Whether the budget has no room for another run.
  @inline(__always)
  var isUsedUp: Bool {
    // A run costs two mappings.
    @_noLocks @_noAllocation get { used.load(ordering: .relaxed) &+ 2 > limit }
  }

  /// Returns the spare mappings for the case that other code has reached the kernel's limit. The first call creates
  /// them. Returns nil if the process cannot get them.
  func reserve(pageSize: PageSize) -> MappingReserve? {
    kept.withLock { kept in
      if kept == nil { kept = MappingReserve(pageSize: pageSize) }
      return kept
    }
  }

  /// Counts `runs` additional runs, or fewer runs if the number is negative.
  @_noLocks @_noAllocation
  @inline(__always)
  func add(_ runs: Int) { used.wrappingAdd(2 &* runs, ordering: .relaxed) }

  /// Resets the count on the first call in a forked child, in which the regions of its parent are not mapped.
  func forgetParents() {
    let process = cuffd_address_space()
    if ownerProcess.exchange(process, ordering: .relaxed) != process { used.store(0, ordering: .relaxed) }
  }

  /// Takes the lock for the time of a fork.
  func lockForFork() { kept.enter() }

  /// Releases the lock, in the parent and in the child.
  func unlockAfterFork() { kept.leave() }
}
