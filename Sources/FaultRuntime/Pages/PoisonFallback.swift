/// What to do with a page that cannot be produced where the kernel cannot poison it (`UFFDIO_POISON` needs Linux 6.6). Zeros
/// are never an answer.
public enum PoisonFallback: String, Hashable, Sendable, CaseIterable {
  /// The program ends, with a line on standard error that says which page and why.
  case abort
  /// A line on standard error, and the threads wait until ``LazyRegion/retry(_:)`` brings the page, or the region is closed.
  case keepWaiting
}
