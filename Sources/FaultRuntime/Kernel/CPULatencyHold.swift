internal import CUFFD

/// The owner of a request to PM QoS that no CPU enter a state from which it takes time to wake. The kernel forgets the
/// request when the descriptor is closed.
struct CPULatencyHold: ~Copyable, Sendable {
  private let descriptor: CInt

  /// Where the kernel takes such requests, for the whole system.
  static let devicePath = "/dev/cpu_dma_latency"

  init(path: String = devicePath) throws(HostCallError) {
    descriptor = unsafe cuffd_hold_cpu_latency(path)
    if let errno = KernelErrno(returned: descriptor) { throw HostCallError(call: path, errno: errno) }
  }

  deinit {
    _ = cuffd_close(descriptor)
  }
}
