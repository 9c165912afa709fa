internal import CUFFD

/// Owns the userfaultfd of a forked child's memory. The kernel gives the descriptor to the thread that reads
/// `UFFD_EVENT_FORK`.
struct ForkedDescriptor: ~Copyable, Sendable {
  let descriptor: CInt

  /// Takes over a descriptor that came with an event.
  init(owning descriptor: CInt) { self.descriptor = descriptor }

  /// Closes the descriptor. From then on the kernel answers the child's faults in inherited regions with zeros.
  consuming func close() {}

  deinit {
    _ = cuffd_close(descriptor)
  }
}
