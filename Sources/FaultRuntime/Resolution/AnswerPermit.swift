internal import CUFFD
internal import Synchronization

/// Whether what a provider says may still be put in place. Whoever asks and whoever gives up agree on it here, so that an
/// answer that comes too late never gets into a page that has failed meanwhile.
final class AnswerPermit: Sendable {
  private enum Phase {
    static let asking = 0
    static let placing = 1
    static let withdrawn = 2
  }

  private let phase = Atomic<Int>(Phase.asking)
  private let since = Atomic<UInt64>(0)

  /// Nobody else may know it yet, or any more. Where it `expires` the time runs from now on.
  func renew(expires: Bool) {
    since.store(expires ? cuffd_monotonic_nanoseconds() : 0, ordering: .relaxed)
    phase.store(Phase.asking, ordering: .releasing)
  }

  /// Whether the question is older than so many nanoseconds at `now`.
  func isOlder(than nanoseconds: UInt64, at now: UInt64) -> Bool {
    let since = since.load(ordering: .relaxed)
    return since != 0 && now > since && now - since > nanoseconds
  }

  /// Before the provider is asked, the first time or once more. Where something was put in place since the last question, this
  /// is a new one, which has its own time.
  func ask() {
    // Only who asks moves it from `placing`.
    guard phase.load(ordering: .relaxed) == Phase.placing else { return }
    renew(expires: since.load(ordering: .relaxed) != 0)
  }

  /// Before an answer is put in place, or a failure reported. Nobody gives up from here until the next question. Throws where
  /// somebody has.
  func beginPlacing() throws(WithdrawnError) {
    if phase.load(ordering: .relaxed) == Phase.placing { return }
    let (exchanged, _) = phase.compareExchange(
      expected: Phase.asking, desired: Phase.placing, ordering: .acquiringAndReleasing)
    guard exchanged else { throw WithdrawnError() }
  }

  /// Gives up. False while an answer is being put in place, which does not take long, or where it was done before.
  func withdraw() -> Bool {
    phase.compareExchange(expected: Phase.asking, desired: Phase.withdrawn, ordering: .acquiringAndReleasing).exchanged
  }

  var isWithdrawn: Bool { phase.load(ordering: .acquiring) == Phase.withdrawn }
}

/// The answer came when nobody wanted it any more.
struct WithdrawnError: EndOfResolution {}
