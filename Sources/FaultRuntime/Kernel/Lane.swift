internal import CUFFD

/// The number of the copy that a thread uses, where a counter or a pool has several copies. Threads on different CPUs
/// then seldom write to the same cache line. Moving a cache line from one CPU to another takes as long as a tenth of
/// a fault.
///
/// The kernel may move a thread to another CPU at any time, so the copies have to be atomic, and a thread has to
/// remember which copy it has entered. Copies lie 128 bytes apart, which is two cache lines, because CPUs fetch lines
/// in pairs.
enum Lane {
  static var count: Int {
    @_noLocks @_noAllocation get { 16 }
  }

  /// Returns the lane of the CPU on which the caller runs. Safe in a signal handler.
  @_noLocks @_noAllocation
  @inline(__always)
  static func current() -> Int { Int(cuffd_current_cpu()) & (count - 1) }
}
