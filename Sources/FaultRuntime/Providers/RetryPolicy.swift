internal import CUFFD

/// How often the runtime asks for a page again after a failure, and how long it waits between the attempts.
///
/// ```swift
/// let options = RegionOptions(retry: RetryPolicy(attempts: 5, timeout: .seconds(10)))
/// ```
///
/// The waits double from ``firstBackoff`` to ``largestBackoff``. Each wait is shortened by a random part of up to
/// ``jitter``, so that pages which failed at the same time are not asked for at the same time again.
///
/// The runtime tries again after an error that a provider throws, and after an answer that is too short. It does not
/// try again after other errors of the type ``ResolutionError``, because they would only occur again. The threads
/// that touch the page wait until the last attempt has ended.
public struct RetryPolicy: Hashable, Sendable {
  /// The greatest number of times that a page is asked for, including the first time; at least 1. If a request for
  /// several pages fails, each page is then asked for by itself, and the failed request does not count.
  public var attempts: Int

  /// The wait after the first failure, before jitter.
  public var firstBackoff: Duration

  /// The longest wait between two attempts.
  public var largestBackoff: Duration

  /// The part of a wait that may be left out at random, from 0 to 1. With 0, no wait is shortened.
  public var jitter: Double

  /// The time after the first failure within which the last attempt has to begin. If it is nil, only the number of
  /// attempts counts.
  public var timeout: Duration?

  /// Creates a policy. Values that are out of their range are brought into it: there is at least one attempt, no wait
  /// is negative, the largest wait is at least as long as the first one, and the jitter is from 0 to 1.
  ///
  /// - Parameters:
  ///   - attempts: the greatest number of times that a page is asked for, including the first time.
  ///   - firstBackoff: the wait after the first failure.
  ///   - largestBackoff: the longest wait between two attempts.
  ///   - jitter: the part of a wait that may be left out at random, from 0 to 1.
  ///   - timeout: the time after the first failure within which the last attempt has to begin, or nil.
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

  /// A policy without further attempts: the first failure is final.
  public static let never = RetryPolicy(attempts: 1)
}
