internal import CUFFD

/// The attempts at one page.
struct RetryAttempts {
  private let policy: RetryPolicy
  private var made = 1
  private var firstFailure: UInt64 = 0

  init(_ policy: RetryPolicy) { self.policy = policy }

  /// Waits as long as the policy says, and then returns whether to ask again.
  ///
  /// - Parameter isOver: whether the request has been given up in the meantime. It is called every two milliseconds.
  mutating func mayGoOn(after error: any Error, until isOver: () -> Bool) -> Bool {
    guard made < policy.attempts, Self.isWorthRepeating(error) else { return false }
    let now = cuffd_monotonic_nanoseconds()
    if firstFailure == 0 { firstFailure = now }
    let wait = wait(after: made, chance: .random(in: 0...1))
    if let timeout = policy.timeout, now - firstFailure + wait > timeout.clampedNanoseconds { return false }
    made += 1
    var left = wait
    while left > 0, !isOver() {
      let part = min(left, 2_000_000)
      cuffd_pause(UInt32(part))
      left -= part
    }
    return !isOver()
  }

  /// Returns the nanoseconds between a failed attempt and the next one. `chance` is from 0 to 1.
  func wait(after attempt: Int, chance: Double) -> UInt64 {
    let largest = policy.largestBackoff.clampedNanoseconds
    var wait = min(policy.firstBackoff.clampedNanoseconds, largest)
    for _ in 1..<max(1, attempt) {
      guard wait > 0, wait < largest else { break }
      wait = wait > largest / 2 ? largest : wait * 2
    }
    // The program may have set the property to any value after the policy was created.
    let jitter = policy.jitter.isNaN ? 0 : min(1, max(0, policy.jitter))
    return UInt64(Double(wait) * (1 - jitter * chance))
  }

  /// An error that a provider throws may be over by the next time, and so may an answer that was too short. What the
  /// runtime or the kernel has refused is refused again.
  private static func isWorthRepeating(_ error: any Error) -> Bool {
    switch (error as? ResolutionError)?.reason {
    case nil, .answerTooShort: true
    default: false
    }
  }
}
