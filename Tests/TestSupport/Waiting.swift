import CTestSupport
import Glibc
import Synchronization

/// Polls until `condition` holds, for at most half a minute unless `seconds` says otherwise. Returns whether it holds.
@discardableResult
package func eventually(seconds: Int = 30, _ condition: () throws -> Bool) rethrows -> Bool {
  let deadline = ContinuousClock.now + .seconds(seconds)
  while try !condition() {
    if ContinuousClock.now > deadline { return false }
    sched_yield()
  }
  return true
}

/// A gate at which threads wait until it is opened. Waiting has a time limit.
package final class Gate: Sendable {
  private let isOpen = Atomic(false)

  package init() {}

  package func open() { isOpen.store(true, ordering: .releasing) }

  package func wait() {
    _ = eventually { isOpen.load(ordering: .acquiring) }
  }
}

/// Ends the process of an exit test after 40 seconds. A thread that waits for its event to be read cannot be told to
/// stop.
package func limitTime() { cts_end_after(40) }
