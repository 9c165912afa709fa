/// How faults are delivered to their provider.
public enum Delivery: String, Hashable, Sendable, CaseIterable {
  /// The best way for each region: `sigbus` where the provider permits it and system calls need not be served, the event
  /// loop otherwise; `sigsegv` where the host allows no userfaultfd.
  case auto

  /// Messages of a userfaultfd, read in batches by threads of the runtime's own. For every provider, and for system calls
  /// where the descriptor allows that.
  case eventLoop = "event-loop"

  /// The thread that faulted runs the provider itself, in a handler of SIGBUS (`UFFD_FEATURE_SIGBUS`). The lowest latency;
  /// for providers that permit it (``ProviderPermissions/signalHandler``). System calls that meet a page which is not
  /// resident get `EFAULT`, and a thread that blocks SIGBUS is killed by a touch. Where the kernel does not tell a poisoned page
  /// from a missing one (without `CONFIG_MEMORY_FAILURE`), each touch of a poisoned page asks the provider again.
  case sigbus

  /// As `sigbus`, without a userfaultfd, for hosts that forbid it: memory that is not there has no access, and the thread that
  /// touches it runs the provider in a handler of SIGSEGV. Each page is filled through a second mapping and opened when it is
  /// complete. The slowest delivery: opening pages takes the lock of the whole address space, and scattered pages cost mappings
  /// (`vm.max_map_count`). Errors and system calls are as with `sigbus`, but a page that could not be produced raises SIGSEGV.
  /// A provider that does not permit the faulting thread is asked on a thread of the runtime's own, while the faulting one waits.
  case sigsegv
}

/// Which delivery a region gets, and why.
public struct DeliveryChoice: Hashable, Sendable {
  /// The delivery; never `auto`.
  public let delivery: Delivery
  /// Why, in one line.
  public let reason: String
}
