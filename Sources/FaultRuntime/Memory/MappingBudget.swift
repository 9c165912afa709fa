internal import CUFFD
internal import Synchronization

/// Limits how many mappings this process spends on regions of ``TwinMemory``. All runtimes share one budget.
///
/// A region costs mappings before any of its pages is open. Each run of open pages is a mapping of its own, and it
/// divides the mapping around it in two, so a run costs two more. The kernel limits the number of mappings of a
/// process (`vm.max_map_count`).
final class MappingBudget: Sendable {
  /// What a region costs: its two mappings of the memfd, and the states of its pages.
  static let mappingsOfRegion = 3

  /// The largest number of mappings. By default it is half of what the kernel permits, because the rest of the
  /// program needs mappings as well, for its threads and its own memory.
  private let limit: Int
  /// The part of the limit that runs leave to regions, so that a region which is touched here and there does not keep
  /// the program from mapping another one.
  private let shareOfRegions: Int
  private let used = Atomic<Int>(0)
  private let ownerProcess = Atomic(cuffd_address_space())
  private let kept = Monitor<MappingReserve?>(nil)

  /// - Parameter limit: the number of mappings; half of `vm.max_map_count` if it is nil.
  init(limit: Int? = nil) {
    self.limit = limit ?? cuffd_mapping_limit() / 2
    shareOfRegions = self.limit / 16
  }

  /// Whether the budget has no room for another run.
  @inline(__always)
  var isUsedUp: Bool {
    // A run costs two mappings.
    @_noLocks @_noAllocation get { used.load(ordering: .relaxed) &+ 2 > limit &- shareOfRegions }
  }

  /// Counts the mappings of a new region. Without room for them it throws, because beyond the limit the process would
  /// in the end have no mapping left for anything else, and not even `malloc` works then.
  func addRegion() throws(HostCallError) {
    forgetParents()
    let before = used.wrappingAdd(Self.mappingsOfRegion, ordering: .relaxed).oldValue
    guard before + Self.mappingsOfRegion > limit else { return }
    removeRegion()
    throw HostCallError(call: "mmap", errno: .noMemory, shortage: .regionMappings(limit: limit))
  }

  /// Counts that the mappings of a region are gone.
  func removeRegion() { used.wrappingSubtract(Self.mappingsOfRegion, ordering: .relaxed) }

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
  private func forgetParents() {
    let process = cuffd_address_space()
    if ownerProcess.exchange(process, ordering: .relaxed) != process { used.store(0, ordering: .relaxed) }
  }

  /// Has forks wait for the lock of the reserve.
  func prepareForFork() { kept.prepareForFork() }
}
