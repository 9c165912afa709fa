internal import CUFFD
internal import Synchronization

/// Lets one thread at a time ask a provider that must not be asked by several. It is for deliveries in which a thread
/// that faults while it asks one provider asks the next one itself; the pool does not know of these calls.
///
/// A thread that comes back to the provider that it is asking goes on. A thread that would wait for a provider whose
/// thread waits for this one, directly or over others, gets an error. A call that nobody else wants takes no lock.
// Safe to share: only the thread that owns the asker uses `range`.
final class SoleAsker: @unchecked Sendable {
  private let region: String
  /// The token of the thread that asks; 0 while none does.
  private let owner = Atomic<UInt64>(0)
  private let waiting = Atomic<Int>(0)
  /// What the owner asks for.
  private var range = 0..<0

  /// What each waiting thread waits for, in the whole process.
  private static let waits = Monitor<[UInt64: SoleAsker]>([:])

  /// Has forks wait for the lock that all askers share.
  static func prepareForFork() { waits.prepareForFork() }

  init(region: String) { self.region = region }

  func ask<Answer>(_ request: PageRequest, _ body: () throws -> Answer) throws -> Answer {
    let thread = cuffd_thread_token()
    if owner.load(ordering: .relaxed) == thread { return try body() }
    if !take(for: thread) { try waitForTurn(of: thread, request) }
    range = request.range
    defer {
      owner.store(0, ordering: .sequentiallyConsistent)
      if waiting.load(ordering: .sequentiallyConsistent) > 0 {
        // A thread that has found the owner and does not sleep yet holds the lock.
        Self.waits.withLock { _ in }
        Self.waits.announce()
      }
    }
    return try body()
  }

  private func take(for thread: UInt64) -> Bool {
    owner.compareExchange(expected: 0, desired: thread, ordering: .sequentiallyConsistent).exchanged
  }

  private func waitForTurn(of thread: UInt64, _ request: PageRequest) throws(ResolutionError) {
    waiting.wrappingAdd(1, ordering: .sequentiallyConsistent)
    defer { waiting.wrappingSubtract(1, ordering: .sequentiallyConsistent) }
    var isWaiting = false
    let deadlock = Self.waits.wait { waits -> SelfDeadlock?? in
      if take(for: thread) {
        waits[thread] = nil
        return .some(nil)
      }
      guard !isWaiting else { return nil }
      // The thread that closes a circle is the last one to wait, so it is enough to look once.
      if let own = asker(of: thread, leadingFrom: self, waits) {
        return SelfDeadlock(
          region: own.region, range: own.range, touchedRegion: region, touchedOffset: request.offset)
      }
      waits[thread] = self
      isWaiting = true
      return nil
    }
    if let deadlock = deadlock ?? nil { throw .deadlock(deadlock) }
  }

  /// Returns the provider of `thread` for which the owner of `first` waits, directly or over others; nil where it does
  /// not wait for that thread.
  private func asker(of thread: UInt64, leadingFrom first: SoleAsker, _ waits: [UInt64: SoleAsker]) -> SoleAsker? {
    var next: SoleAsker? = first
    for _ in 0...waits.count {
      guard let asker = next else { return nil }
      let owner = asker.owner.load(ordering: .relaxed)
      if owner == thread { return asker }
      next = waits[owner]
    }
    return nil
  }
}
