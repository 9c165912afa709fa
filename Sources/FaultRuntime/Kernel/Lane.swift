internal import CUFFD

/// Which of a few copies of something the calling thread uses, so that threads on different CPUs seldom write to the same cache
/// line: moving one between CPUs takes as long as a tenth of a fault.
///
/// A thread may be moved to another CPU at any time, so the copies have to be atomic, and a lane that was entered has to be
/// remembered. Copies are 128 bytes apart, two cache lines, because lines are fetched in pairs.
enum Lane {
  static var count: Int {
    @_noLocks @_noAllocation get { 16 }
  }

  /// Safe in a signal handler.
  @_noLocks @_noAllocation
  @inline(__always)
  static func current() -> Int { Int(cuffd_current_cpu()) & (count - 1) }
}
