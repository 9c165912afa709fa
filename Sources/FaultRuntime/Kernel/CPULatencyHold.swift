internal import CUFFD

/// Owns a request to PM QoS that no CPU enters an idle state from which it takes time to wake. The kernel drops the
/// request when the descriptor is closed.
struct CPULatencyHold: ~Copyable, Sendable {
  private let descriptor: CInt

  /// The device that takes such requests. A request holds for the whole system.
  static let devicePath = "/dev/cpu_dma_latency"

  init(path: String = devicePath) throws(HostCallError) {
    descriptor = unsafe cuffd_hold_cpu_latency(path)
    if let errno = KernelErrno(returned: descriptor) { throw HostCallError(call: path, errno: errno) }
  }

  deinit {
    _ = cuffd_close(descriptor)
  }
}
