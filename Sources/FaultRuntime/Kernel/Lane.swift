internal import CUFFD

/// Which of a few copies of something the calling thread uses, so that threads on different CPUs seldom write to the same cache
/// line: moving one between CPUs takes as long as a tenth of a fault.
///
/// A thread may be moved to another CPU at any time, so the copies have to be atomic, and a lane that was entered has to be
/// remembered.
enum Lane {
  static let count = 16

  /// Bytes by which copies are kept apart: two cache lines, which are fetched in pairs.
  static let spacing = 128

  /// Safe in a signal handler.
  @inline(__always)
  static var current: Int { Int(cuffd_current_cpu()) & (count - 1) }
}
