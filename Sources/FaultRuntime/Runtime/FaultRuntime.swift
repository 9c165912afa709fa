#if !os(Linux)
  #error("FaultRuntime is for Linux: it is built on userfaultfd(2).")
#endif

/// Serves the page faults of lazy regions.
///
/// ```swift
/// let runtime = try FaultRuntime()
/// let weights = try runtime.map(FileProvider("weights.bin"))
/// let first = weights.load(fromByteOffset: 0, as: UInt32.self)   // reads the page that it is in, and nothing else
/// ```
///
/// A runtime has threads of its own, which read faults from a userfaultfd and resolve them. It lives as long as it or
/// one of its regions is held. All of it may be used from any thread.
///
/// After `fork(2)` regions belong to the parent: in the child their memory is not mapped, a touch is SIGSEGV, and `map`
/// throws.
public final class FaultRuntime: Sendable {
  private let engine: Engine

  /// Opens the descriptors and starts the handler threads.
  ///
  /// Where the host allows no userfaultfd, and the configuration leaves everything to the runtime, regions are served
  /// by ``Delivery/sigsegv``, which is said once (``FaultRuntimeConfiguration/onNotice``).
  ///
  /// Blocks for a few milliseconds at most, while it tries the ways to a userfaultfd and starts threads. May be called
  /// from any thread, though not in a signal handler.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code
  ///   - `invalidConfiguration` where a value is out of its range, or two of them contradict each other;
  ///   - `userfaultfdUnavailable` where the host does not allow a userfaultfd that the configuration asks for, or the
  ///     process has no descriptor left for it (it says what was tried and what would help);
  ///   - `featureMissing` where the kernel cannot deliver faults by SIGBUS, which `auto` and `sigbus` want (Linux
  ///     4.14);
  ///   - `cannotStart` where descriptors, memory or threads are used up;
  ///   - `cannotKeepCPUsAwake` where that was asked for and is not permitted.
  public init(_ configuration: FaultRuntimeConfiguration = FaultRuntimeConfiguration()) throws(FaultRuntimeError) {
    engine = try Engine(configuration)
  }

  /// Maps a region that `provider` fills, as long as the provider says. Nothing is read yet.
  ///
  /// Blocks for a few system calls, and takes locks. O(open regions). May be called from any thread, though not in a
  /// signal handler.
  ///
  /// - Parameters:
  ///   - provider: produces the pages, and knows how many bytes there are.
  ///   - options: how the region is mapped: its name, its access, how failures are retried, and the like.
  /// - Throws: ``FaultRuntimeError`` with the code
  ///   - `emptyRegion` where the provider has no bytes;
  ///   - `requestTooLarge` where it wants requests of more than 1 GiB;
  ///   - `providerForbidsDelivery` where the configuration says `sigbus` and the provider does not permit the faulting
  ///     thread, or where the options have a timeout and the region would be served by `sigbus` or `sigsegv`;
  ///   - `cannotMap` where the address space cannot be had;
  ///   - `cannotRegister` where the kernel refuses to report the region's faults;
  ///   - `cannotStart` where a thread that the region needs cannot be had, or the handler of a signal;
  ///   - `forkedChild` in a forked child.
  public func map(
    _ provider: some SizedPageProvider, options: RegionOptions = RegionOptions()
  ) throws(FaultRuntimeError) -> LazyRegion {
    try engine.map(provider, byteCount: provider.byteCount, options: options)
  }

  /// Maps a region of `byteCount` bytes that `provider` fills. Nothing is read yet.
  ///
  /// The memory is private to this process and reserves nothing, so a region may be far larger than the machine's
  /// memory. Blocks for a few system calls, and takes locks. O(open regions). May be called from any thread, though not
  /// in a signal handler.
  ///
  /// - Parameters:
  ///   - provider: produces the pages.
  ///   - byteCount: any length from 1. It is rounded up to whole pages; what is behind it in the last page is zero.
  ///   - options: how the region is mapped: its name, its access, how failures are retried, and the like.
  /// - Throws: ``FaultRuntimeError`` with the code `emptyRegion`, `requestTooLarge`, `providerForbidsDelivery`,
  ///   `cannotMap`, `cannotRegister`, `cannotStart` or `forkedChild`, for the reasons that ``map(_:options:)`` names.
  public func map(
    _ provider: some PageProvider, byteCount: Int, options: RegionOptions = RegionOptions()
  ) throws(FaultRuntimeError) -> LazyRegion {
    try engine.map(provider, byteCount: byteCount, options: options)
  }

  /// Which delivery a region over `provider` gets from ``map(_:options:)``, and why. Takes no lock; may be called from
  /// any thread.
  public func deliveryChoice(
    for provider: some PageProvider, options: RegionOptions = RegionOptions()
  ) -> DeliveryChoice { engine.choose(for: provider, options: options) }

  /// Which way to a userfaultfd the event loop took; without an event loop, which way the faulting threads' descriptor
  /// came; nil where there is none. Takes a lock; may be called from any thread.
  public var descriptor: DescriptorKind? { engine.descriptor }

  /// The features that the kernel offers for this descriptor. Takes a lock; may be called from any thread.
  public var availableFeatures: UserfaultfdFeatures { engine.availableFeatures }

  /// Bytes in a page of this host.
  public var pageSize: Int { engine.pageSize.bytes }

  /// Number of regions that are open. Takes a lock; may be called from any thread.
  public var regionCount: Int { engine.regionCount }

  /// What has been done since the runtime was made. Takes a lock; may be called from any thread. The numbers are read
  /// one after another, while others may be counting.
  public var statistics: FaultStatistics { engine.statistics }
}
