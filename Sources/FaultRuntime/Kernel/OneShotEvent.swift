/// An event that one thread announces once, and that other threads wait for.
typealias OneShotEvent = Monitor<Bool>

extension Monitor where Value == Bool {
  /// Creates an event that has not been announced yet.
  convenience init() { self.init(false) }

  /// Announces the event, and wakes the threads that wait for it. The event stays announced.
  func signal() {
    withLock { $0 = true }
    announce()
  }

  /// Waits for the event. Returns whether it was announced within `nanoseconds`.
  func wait(nanoseconds: UInt64) -> Bool { wait(nanoseconds: nanoseconds) { $0 ? true : nil } ?? false }
}
