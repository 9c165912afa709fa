internal import CUFFD

/// An event that one thread announces once, and that other threads wait for.
///
/// A thread that waits holds no lock, so a signal handler of the program may interrupt the wait and wait itself, for
/// this event or for another one.
@safe
// Safe to share: the event is one atomic number.
final class OneShotEvent: @unchecked Sendable {
  private let event: OpaquePointer

  /// Creates an event that has not been announced yet.
  init() {
    guard let created = unsafe cuffd_event_create() else {
      fatalError("FaultRuntime: no memory for an event of a few bytes")
    }
    unsafe event = created
  }

  deinit { unsafe cuffd_event_destroy(event) }

  /// Announces the event, and wakes the threads that wait for it. The event stays announced. Safe in a signal handler.
  func signal() { unsafe cuffd_event_announce(event) }

  /// Waits for the event. Returns whether it was announced within `nanoseconds`.
  func wait(nanoseconds: UInt64) -> Bool { unsafe cuffd_event_wait(event, nanoseconds) }
}
