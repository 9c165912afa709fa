internal import CUFFD
internal import Synchronization

/// How many mappings the regions that are guarded by their protection may cost this process, all runtimes together. Each run of
/// open pages is a mapping of its own and parts another one in two, and the kernel has a limit for all (`vm.max_map_count`).
final class MappingBudget: Sendable {
  /// Half of what the kernel permits: the rest of the program needs mappings as well, for threads and memory of its own.
  private let limit: Int
  private let used = Atomic<Int>(0)
  private let ownerProcess = Atomic(cuffd_process_id())
  private let kept = Monitor<MappingReserve?>(nil)

  /// - Parameter limit: the number of mappings; half of `vm.max_map_count` where it is nil.
  init(limit: Int? = nil) { self.limit = limit ?? cuffd_mapping_limit() / 2 }

  /// Whether no further run can be had.
  @inline(__always)
  var isUsedUp: Bool {
    // A run is a mapping of its own, and parts another one in two.
    @_noLocks @_noAllocation get { used.load(ordering: .relaxed) &+ 2 > limit }
  }

  /// What is kept for the case that others have used up the kernel's limit, made by the first who asks; nil where it cannot be had.
  func reserve(pageSize: PageSize) -> MappingReserve? {
    kept.withLock { kept in
      if kept == nil { kept = MappingReserve(pageSize: pageSize) }
      return kept
    }
  }

  /// So many runs more, or fewer.
  @_noLocks @_noAllocation
  @inline(__always)
  func add(_ runs: Int) { used.wrappingAdd(2 &* runs, ordering: .relaxed) }

  /// The regions of its parent are not mapped in a forked child.
  func forgetParents() {
    let process = cuffd_process_id()
    if ownerProcess.exchange(process, ordering: .relaxed) != process { used.store(0, ordering: .relaxed) }
  }
}
