internal import CUFFD

/// A timeout that several waits share: each of them may last as long as is left of it.
struct SharedTimeout {
  private let start = cuffd_monotonic_nanoseconds()
  private let nanoseconds: UInt64

  /// Begins now.
  init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

  /// How much is left, in nanoseconds.
  var remaining: UInt64 { nanoseconds - min(cuffd_monotonic_nanoseconds() - start, nanoseconds) }
}
