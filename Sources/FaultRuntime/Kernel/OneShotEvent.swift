/// A moment that one thread announces and others wait for.
typealias OneShotEvent = Monitor<Bool>

extension Monitor where Value == Bool {
  /// Makes an event that has not happened yet.
  convenience init() { self.init(false) }

  /// Announces the event. It stays announced.
  func signal() {
    withLock { $0 = true }
    announce()
  }

  /// Waits for the event. Returns whether it came within `nanoseconds`.
  func wait(nanoseconds: UInt64) -> Bool { wait(nanoseconds: nanoseconds) { $0 ? true : nil } ?? false }
}
