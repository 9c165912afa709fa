/// How faults are delivered to their provider.
public enum Delivery: String, Hashable, Sendable, CaseIterable {
  /// The best way for each region: `sigbus` where the provider permits it and system calls need not be served, the event
  /// loop otherwise.
  case auto

  /// Messages of a userfaultfd, read in batches by threads of the runtime's own. For every provider, and for system calls
  /// where the descriptor allows that.
  case eventLoop = "event-loop"

  /// The thread that faulted runs the provider itself, in a handler of SIGBUS (`UFFD_FEATURE_SIGBUS`). The lowest latency;
  /// for providers that permit it (``PageProvider/mayRunInFaultingThread``). System calls that meet a page which is not
  /// resident get `EFAULT`, and a thread that blocks SIGBUS is killed by a touch. Where the kernel does not tell a poisoned page
  /// from a missing one (without `CONFIG_MEMORY_FAILURE`), each touch of a poisoned page asks the provider again.
  case sigbus
}

/// Which delivery a region gets, and why.
public struct DeliveryChoice: Hashable, Sendable {
  /// The delivery; never `auto`.
  public let delivery: Delivery
  /// Why, in one line.
  public let reason: String
}
