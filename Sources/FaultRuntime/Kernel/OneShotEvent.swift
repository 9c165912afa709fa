internal import CUFFD

/// A moment that one thread waits for, with a time limit, and another announces.
@safe
// Safe to share: the C object locks itself, and the pointer to it never changes.
final class OneShotEvent: @unchecked Sendable {
  private let event: OpaquePointer

  init() {
    guard let created = unsafe cuffd_event_create() else {
      fatalError("FaultRuntime: no memory for an event of a few bytes")
    }
    unsafe event = created
  }

  deinit {
    unsafe cuffd_event_destroy(event)
  }

  func signal() { unsafe cuffd_event_signal(event) }

  /// Whether the event came within `nanoseconds`.
  func wait(nanoseconds: UInt64) -> Bool { unsafe cuffd_event_wait(event, nanoseconds) == 0 }
}
