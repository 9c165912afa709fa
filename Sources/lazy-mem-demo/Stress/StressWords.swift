import Synchronization

/// A row of atomic words, one for each page of a region. There is one row for each kind of knowledge.
@safe
// Safe to share: every word is atomic, and the row never moves.
final class StressWords: @unchecked Sendable {
  private let words: UnsafeMutablePointer<Atomic<UInt64>>
  let count: Int

  init(count: Int) {
    self.count = count
    unsafe words = UnsafeMutablePointer.allocate(capacity: count)
    for index in 0..<count { unsafe (words + index).initialize(to: Atomic(0)) }
  }

  deinit {
    unsafe words.deinitialize(count: count)
    unsafe words.deallocate()
  }

  private func word(_ index: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
    precondition(index >= 0 && index < count, "no such page")
    return unsafe words + index
  }

  func load(_ index: Int) -> UInt64 { unsafe word(index).pointee.load(ordering: .acquiring) }

  /// Loads a word after all earlier accesses. A plain acquiring load would not do, because it only orders the
  /// accesses that follow it.
  func loadLast(_ index: Int) -> UInt64 {
    unsafe word(index).pointee.add(0, ordering: .acquiringAndReleasing).newValue
  }

  func store(_ value: UInt64, _ index: Int) { unsafe word(index).pointee.store(value, ordering: .releasing) }

  func exchange(_ index: Int, from expected: UInt64, to desired: UInt64) -> Bool {
    unsafe word(index).pointee.compareExchange(
      expected: expected, desired: desired, ordering: .acquiringAndReleasing
    ).exchanged
  }

  func insert(_ bits: UInt64, _ index: Int) {
    _ = unsafe word(index).pointee.bitwiseOr(bits, ordering: .acquiringAndReleasing)
  }

  func add(_ amount: UInt64, _ index: Int) { unsafe word(index).pointee.wrappingAdd(amount, ordering: .relaxed) }

  /// Decrements a number that is not 0. Returns false if it is 0.
  func takeOne(_ index: Int) -> Bool {
    var value = load(index)
    while value > 0 {
      if exchange(index, from: value, to: value - 1) { return true }
      value = load(index)
    }
    return false
  }
}

/// A lock for many users and one closer. A thread that wants to close it never waits.
final class StressGate: Sendable {
  /// The number of threads inside; -1 while the gate is closed.
  private let users = Atomic<Int>(0)

  /// Waits while the gate is closed, then enters.
  func enter() {
    var now = users.load(ordering: .relaxed)
    while true {
      if now < 0 {
        stressPause()
        now = users.load(ordering: .relaxed)
        continue
      }
      let (done, seen) = users.compareExchange(expected: now, desired: now + 1, ordering: .acquiringAndReleasing)
      if done { return }
      now = seen
    }
  }

  func leave() { users.subtract(1, ordering: .acquiringAndReleasing) }

  /// Closes the gate. Returns false if a thread is inside or the gate is closed already.
  func tryClose() -> Bool {
    users.compareExchange(expected: 0, desired: -1, ordering: .acquiringAndReleasing).exchanged
  }

  func open() { users.store(0, ordering: .releasing) }
}
