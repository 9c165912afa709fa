internal import CUFFD

/// Owns a request to PM QoS that no CPU enters an idle state from which it takes time to wake. The kernel drops the
/// request when the descriptor is closed.
struct CPULatencyHold: ~Copyable, Sendable {
  private let descriptor: CInt
  /// What the device was when it was opened. The program may close the descriptor, and another file may get its number.
  private let facts: cuffd_file_facts

  /// The device that takes such requests. A request holds for the whole system.
  static let devicePath = "/dev/cpu_dma_latency"

  init(path: String = devicePath) throws(HostCallError) {
    let opened = unsafe cuffd_hold_cpu_latency(path)
    if let errno = KernelErrno(returned: opened) { throw HostCallError(call: path, errno: errno) }
    var facts = cuffd_file_facts()
    if let errno = unsafe KernelErrno(returned: cuffd_file_facts_of(opened, &facts)) {
      _ = cuffd_close(opened)
      throw HostCallError(call: path, errno: errno)
    }
    descriptor = opened
    self.facts = facts
  }

  deinit { unsafe withUnsafePointer(to: facts) { unsafe cuffd_file_close_same(descriptor, $0) } }
}
