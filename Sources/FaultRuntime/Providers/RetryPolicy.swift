internal import CUFFD

/// How often a provider that throws is asked again for a page before the page fails, and how long to wait in between.
///
/// The waits double from ``firstBackoff`` to ``largestBackoff``, each shortened by a random part of up to ``jitter``,
/// so that pages that failed together are not asked for together again.
public struct RetryPolicy: Hashable, Sendable {
  /// How often a page is asked for at most, the first time included; at least 1. Whoever waits for the page waits as
  /// long.
  public var attempts: Int

  /// The wait after the first failure.
  public var firstBackoff: Duration

  /// The most that one wait takes.
  public var largestBackoff: Duration

  /// How much of a wait is left to chance, from 0 to 1.
  public var jitter: Double

  /// How long after the first failure the last attempt may begin; nil where only the number of attempts counts.
  public var timeout: Duration?

  /// A policy with the given values; those that are out of their range are brought into it.
  public init(
    attempts: Int, firstBackoff: Duration = .milliseconds(10), largestBackoff: Duration = .seconds(1),
    jitter: Double = 0.5, timeout: Duration? = nil
  ) {
    self.attempts = max(1, attempts)
    self.firstBackoff = max(.zero, firstBackoff)
    self.largestBackoff = max(self.firstBackoff, largestBackoff)
    self.jitter = jitter.isNaN ? 0 : min(1, max(0, jitter))
    self.timeout = timeout
  }

  /// The first failure is final.
  public static let never = RetryPolicy(attempts: 1)
}
