/// How many threads of a pool may do what.
struct PoolLimits: Sendable {
  /// The number of threads that a pool has while no call of a provider holds up others.
  var threads: Int

  /// How long a call may last before the pool gives its thread's place to a region that has no thread, in
  /// nanoseconds.
  var patience: UInt64 = 100_000_000

  /// The number of threads that one region, or the prefetches of all regions, may occupy while other regions wait.
  var share: Int { max(1, threads - 1) }

  /// How long a call may last before its thread is replaced for the sake of every region, in nanoseconds. Until then
  /// only regions that have no thread at all gain by a slow call, so slow providers that answer are not asked by more
  /// threads than the program has allowed.
  var stuckAfter: UInt64 {
    let (product, overflows) = patience.multipliedReportingOverflow(by: 50)
    return overflows ? .max : product
  }

  /// The largest number of threads that are started because others wait in faults.
  static let forWaits = 64

  /// The largest number of calls of one region that have been given up and have not returned.
  static let givenUp = 64

  /// The number of such calls of all regions together from which on one such call of a region is too many.
  static let givenUpInAll = 256
}
