internal import CUFFD

/// The pauses of a thread that waits for a short time: in the first 63 rounds the thread yields its CPU, and after
/// that it sleeps for 50 microseconds in each round.
struct Backoff {
  private var rounds = 0

  @_noLocks @_noAllocation
  mutating func pause() {
    rounds += 1
    cuffd_pause(rounds < 64 ? 0 : 50_000)
  }
}
