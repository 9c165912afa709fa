internal import CUFFD

/// How a writer waits for readers that are a few instructions from done: first it yields, then it sleeps a little.
struct Backoff {
  private var rounds = 0

  @_noLocks @_noAllocation
  mutating func pause() {
    rounds += 1
    cuffd_pause(rounds < 64 ? 0 : 50_000)
  }
}
