#if !os(Linux)
  #error("FaultRuntime is for Linux: it is built on userfaultfd(2).")
#endif

/// A runtime that serves the page faults of lazy regions.
///
/// ```swift
/// let runtime = try FaultRuntime()
/// let weights = try runtime.map(FileProvider("weights.bin"))
/// let first = weights.load(fromByteOffset: 0, as: UInt32.self)  // requests the page of this value, and little more
/// ```
///
/// With the event loop, threads of the runtime's own read faults from a userfaultfd and resolve them. With `sigbus`
/// and `sigsegv`, the thread that touched a page does so itself (``Delivery``). The runtime lives as long as the
/// program holds it or one of its regions. All of its members may be used from any thread.
///
/// After `fork(2)` the regions belong to the parent. In the child their memory is not mapped, so that a touch raises
/// SIGSEGV, and ``map(_:options:)`` throws an error.
public final class FaultRuntime: Sendable {
  private let engine: Engine

  /// Makes a runtime: opens its descriptors and starts its handler threads.
  ///
  /// Where the host allows no userfaultfd, and the configuration insists neither on a delivery or a kind of
  /// descriptor nor on system calls, the runtime serves its regions by ``Delivery/sigsegv``. It says so once
  /// (``FaultRuntimeConfiguration/onNotice``). A seccomp filter that kills for `userfaultfd(2)` ends the program
  /// here; ``HostReport`` finds such a filter without that risk.
  ///
  /// The call blocks for a few milliseconds at most, while the runtime tries the ways to a userfaultfd and starts
  /// threads. It may be made from any thread, but not in a signal handler. The signals of the thread are blocked
  /// meanwhile, except those of its own faults.
  ///
  /// - Parameter configuration: how the runtime works. The defaults suit most programs.
  /// - Throws: ``FaultRuntimeError`` with the code
  ///   - `invalidConfiguration` where a value is out of its range, or two values contradict each other;
  ///   - `userfaultfdUnavailable` where the host does not allow a userfaultfd that the configuration asks for, or the
  ///     process may open no more descriptors. The error says what was tried and what would help;
  ///   - `featureMissing` where the kernel cannot deliver faults by SIGBUS (as it can since Linux 4.14), which
  ///     `sigbus` needs, and `auto` unless it serves system calls;
  ///   - `cannotStart` where descriptors, memory or threads are used up;
  ///   - `cannotKeepCPUsAwake` where the configuration asks for that, and the process may not do it or the kernel
  ///     cannot.
  public init(_ configuration: FaultRuntimeConfiguration = FaultRuntimeConfiguration()) throws(FaultRuntimeError) {
    // A signal handler of the program that touches lazy memory must not interrupt this in the allocator.
    engine = try withoutCancellation { () throws(FaultRuntimeError) in
      try holdingSignals { () throws(FaultRuntimeError) in try Engine(configuration) }
    }
  }

  /// Maps a region that `provider` fills, and whose length `provider` knows. No page is requested yet.
  ///
  /// The call blocks for a few system calls, and takes locks. It takes O(open regions) time. It may be made from any
  /// thread, but not in a signal handler.
  ///
  /// - Parameters:
  ///   - provider: produces the pages, and knows how many bytes there are.
  ///   - options: the name of the region, its access, how failures are retried, and the like.
  /// - Returns: A region that is open. It keeps the runtime alive.
  /// - Throws: ``FaultRuntimeError`` with the code
  ///   - `emptyRegion` where the provider has no bytes;
  ///   - `requestTooLarge` where the provider wants requests of more than 1 GiB;
  ///   - `providerForbidsDelivery` where the configuration says `sigbus` and the provider does not permit the
  ///     faulting thread, or where the options have a timeout and `sigbus` or `sigsegv` would serve the region;
  ///   - `cannotMap` where there is no address space for the region;
  ///   - `cannotRegister` where the kernel refuses to report the region's faults;
  ///   - `cannotStart` where a thread that the region needs cannot be started, or its signal handler cannot be
  ///     installed;
  ///   - `forkedChild` in a forked child.
  public func map(
    _ provider: some SizedPageProvider, options: RegionOptions = RegionOptions()
  ) throws(FaultRuntimeError) -> LazyRegion {
    try map(provider, byteCount: provider.byteCount, options: options)
  }

  /// Maps a region of `byteCount` bytes that `provider` fills. No page is requested yet.
  ///
  /// The memory is private to this process and reserves nothing, so a region may be far larger than the memory of the
  /// machine. The call blocks for a few system calls, and takes locks. It takes O(open regions) time and, with guard
  /// markers (`sigsegv`), O(pages) time: an eighth of a second for 16 GiB. It may be made from any thread, but not in a
  /// signal handler. The signals of the thread are blocked meanwhile, except those of its own faults.
  ///
  /// - Parameters:
  ///   - provider: produces the pages.
  ///   - byteCount: the length in bytes, at least 1. The memory ends at a page boundary, and its bytes behind
  ///     `byteCount` are zero.
  ///   - options: the name of the region, its access, how failures are retried, and the like.
  /// - Returns: A region that is open. It keeps the runtime alive.
  /// - Throws: ``FaultRuntimeError`` with the code `emptyRegion`, `requestTooLarge`, `providerForbidsDelivery`,
  ///   `cannotMap`, `cannotRegister`, `cannotStart` or `forkedChild`, for the reasons that ``map(_:options:)`` names.
  public func map(
    _ provider: some PageProvider, byteCount: Int, options: RegionOptions = RegionOptions()
  ) throws(FaultRuntimeError) -> LazyRegion {
    try withoutCancellation { () throws(FaultRuntimeError) in
      try holdingSignals { () throws(FaultRuntimeError) in
        try engine.map(provider, byteCount: byteCount, options: options)
      }
    }
  }

  /// Returns the delivery that a region over `provider` gets from ``map(_:options:)``, and the reason.
  ///
  /// A delivery that the configuration names is the answer even where `map` throws an error, because the provider or
  /// the timeout forbids that delivery. The method takes a lock, and may be called from any thread.
  public func deliveryChoice(
    for provider: some PageProvider, options: RegionOptions = RegionOptions()
  ) -> DeliveryChoice { withoutCancellation { holdingSignals { engine.choose(for: provider, options: options) } } }

  /// The kind of userfaultfd that the event loop has; without an event loop, the kind that the faulting threads have;
  /// nil where the runtime has no userfaultfd. The property takes a lock and may be used from any thread.
  public var descriptor: DescriptorKind? { holdingSignals { engine.descriptor } }

  /// The features that the kernel offers for this descriptor; empty where there is none. The property takes a lock
  /// and may be used from any thread.
  public var availableFeatures: UserfaultfdFeatures { holdingSignals { engine.availableFeatures } }

  /// The size that an alternate signal stack (`sigaltstack(2)`) needs on a thread that touches memory of
  /// ``Delivery/sigbus`` or ``Delivery/sigsegv``, in bytes. `SIGSTKSZ` is not enough.
  ///
  /// The runtime's handler runs on the alternate stack of a thread that has one, and so does a provider that permits
  /// ``ProviderPermissions/signalHandler``. A stack of this size has room for the handler, and for what providers and
  /// ``FaultRuntimeConfiguration/onFailure`` usually call. A provider that needs more than 24 KiB itself needs a larger
  /// one. Where less than that is left when a fault begins (4 KiB for the providers of this library, and 6 KiB for
  /// ``FileProvider``), the process ends with a line on standard error, because the answer would overwrite what lies
  /// below the stack. Threads without an alternate stack use their own.
  public static let signalStackByteCount = 64 << 10

  /// The number of bytes in a page of this host.
  public var pageSize: Int { engine.pageSize.bytes }

  /// The number of regions that are open. The property takes no lock and may be used from any thread.
  public var regionCount: Int { engine.regionCount }

  /// What the runtime has done since it was made. The numbers are read one after another, while other threads may be
  /// counting. The property takes a lock and may be used from any thread.
  public var statistics: FaultStatistics { holdingSignals { engine.statistics } }
}
