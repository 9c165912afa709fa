internal import CUFFD

/// Owns an eventfd with which other threads interrupt the wait of an event loop.
struct WakeDescriptor: ~Copyable, Sendable {
  let descriptor: CInt

  init() throws(HostCallError) {
    descriptor = cuffd_eventfd()
    if let errno = KernelErrno(returned: descriptor) { throw HostCallError(call: "eventfd", errno: errno) }
    unsafe cuffd_note_own("eventfd", descriptor)
  }

  deinit {
    cuffd_close_own(descriptor)
  }

  /// Whether the program has closed the descriptor, or has put a file in its place.
  var isLost: Bool { cuffd_is_foreign(descriptor) }

  func signal() { _ = cuffd_eventfd_signal(descriptor) }

  func clear() { _ = cuffd_eventfd_clear(descriptor) }
}
