internal import CUFFD

/// A right that one of several threads has at a time, and passes on.
@safe
// Safe to share: the C object locks itself, and the pointer to it never changes.
final class Baton: @unchecked Sendable {
  private let baton: OpaquePointer

  init(holder: CInt) {
    guard let created = unsafe cuffd_baton_create(holder) else {
      fatalError("FaultRuntime: no memory for a lock of a few bytes")
    }
    unsafe baton = created
  }

  deinit {
    unsafe cuffd_baton_destroy(baton)
  }

  func pass(to holder: CInt) { unsafe cuffd_baton_pass(baton, holder) }

  /// Waits until it is passed to `number`: for ever, like a handler that waits for a fault.
  func wait(as number: CInt) { unsafe cuffd_baton_wait(baton, number) }
}
