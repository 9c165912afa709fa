internal import CUFFD
internal import Synchronization

/// Says whether a provider's answer may still be put in place. The thread that asks and the thread that gives up
/// agree on this here, so that a late answer never reaches a page that has failed in the meantime.
final class AnswerPermit: Sendable {
  private enum Phase {
    static let asking = 0
    static let placing = 1
    static let withdrawn = 2
  }

  private let phase = Atomic<Int>(Phase.asking)
  private let since = Atomic<UInt64>(0)

  /// Makes the permit ready for a new question. No other thread may hold the permit during this call.
  ///
  /// - Parameters:
  ///   - expires: whether the question has a time limit.
  ///   - start: the time from which the limit counts, in monotonic nanoseconds; 0 for now.
  func renew(expires: Bool, since start: UInt64 = 0) {
    since.store(!expires ? 0 : start != 0 ? start : cuffd_monotonic_nanoseconds(), ordering: .relaxed)
    phase.store(Phase.asking, ordering: .releasing)
  }

  /// Returns whether the question is older than `nanoseconds` at the time `now`.
  func isOlder(than nanoseconds: UInt64, at now: UInt64) -> Bool {
    let since = since.load(ordering: .relaxed)
    return since != 0 && now > since && now - since > nanoseconds
  }

  /// Must be called before the provider is asked, the first time and every further time. If something was put in
  /// place since the last question, this is a new question, which gets its own time.
  func ask() {
    // Only the thread that asks changes the phase when it is `placing`.
    guard phase.load(ordering: .relaxed) == Phase.placing else { return }
    renew(expires: since.load(ordering: .relaxed) != 0)
  }

  /// Must be called before an answer is put in place or a failure is reported. No thread can give up between this
  /// call and the next question. The function throws if a thread has already given up.
  func beginPlacing() throws(WithdrawnError) {
    if phase.load(ordering: .relaxed) == Phase.placing { return }
    let (exchanged, _) = phase.compareExchange(
      expected: Phase.asking, desired: Phase.placing, ordering: .acquiringAndReleasing)
    guard exchanged else { throw WithdrawnError() }
  }

  /// Gives up the question. Returns false while an answer is being put in place, which is short, or if the question
  /// was already given up.
  func withdraw() -> Bool {
    phase.compareExchange(expected: Phase.asking, desired: Phase.withdrawn, ordering: .acquiringAndReleasing).exchanged
  }

  var isWithdrawn: Bool { phase.load(ordering: .acquiring) == Phase.withdrawn }
}

/// The answer came after the request had been given up.
struct WithdrawnError: EndOfResolution {}
