import Glibc
import Synchronization

/// Watches whether every thread makes progress.
final class StressWatch: Sendable {
  /// Three words for each thread: its operation plus 1 (0 between operations), the number of its region, and the
  /// start of the operation in milliseconds.
  private let words: StressWords
  private let threads: Int
  private let patience: Double
  private let isOver = Atomic<Bool>(false)

  init(threads: Int, patience: Double) {
    self.threads = threads
    self.patience = patience
    words = StressWords(count: threads * 3)
  }

  /// Records the start of an operation. `region` holds the slot in its lowest 8 bits, and above them the number of
  /// regions that the slot has had before.
  func begin(_ thread: Int, _ operation: StressOperation, region: UInt64) {
    words.store(region, thread * 3 + 1)
    words.store(UInt64(monotonicSeconds() * 1000), thread * 3 + 2)
    words.store(UInt64(operation.rawValue + 1), thread * 3)
  }

  func end(_ thread: Int) { words.store(0, thread * 3) }

  func stop() { isOver.store(true, ordering: .relaxed) }

  /// Watches until `stop` is called. Ends the program if an operation takes too long. `registry` describes the
  /// regions of the threads.
  func run(_ registry: StressRegistry) {
    while !isOver.load(ordering: .relaxed) {
      usleep(100_000)
      let now = UInt64(monotonicSeconds() * 1000)
      let hangs = (0..<threads).contains { thread in
        words.load(thread * 3) != 0 && now > words.load(thread * 3 + 2) + UInt64(patience * 1000)
      }
      guard hangs else { continue }
      let lines = (0..<threads).map { thread in
        words.load(thread * 3) == 0
          ? "thread \(thread): between operations\n"
          : describe(thread, now, registry)
      }
      Diagnostics.write(
        "lazy-mem-demo: an operation takes longer than \(patience) s\n" + lines.joined() + ThreadStates.text)
      _exit(StressCommand.hangCode)
    }
  }

  private func describe(_ thread: Int, _ now: UInt64, _ registry: StressRegistry) -> String {
    let operation = StressOperation(rawValue: Int(words.load(thread * 3)) - 1)?.name ?? "unknown"
    let since = max(now, words.load(thread * 3 + 2)) - words.load(thread * 3 + 2)
    let region = words.load(thread * 3 + 1)
    let name = StressPlan.name(slot: Int(region & 0xff), generation: Int(region >> 8))
    return "thread \(thread): \(operation) of \(name) for \(since) ms\n  \(registry.describe(name))\n"
  }
}
