internal import CUFFD

/// The owner of the userfaultfd of a forked child's memory, as `UFFD_EVENT_FORK` hands it to whoever reads the event. It is closed
/// when its owner ends.
struct ForkedDescriptor: ~Copyable, Sendable {
  let descriptor: CInt

  /// Takes over a descriptor that came with an event.
  init(owning descriptor: CInt) { self.descriptor = descriptor }

  /// Closes the descriptor. The kernel answers the child's faults with zeros from then on, where a region was inherited.
  consuming func close() {}

  deinit {
    _ = cuffd_close(descriptor)
  }
}
