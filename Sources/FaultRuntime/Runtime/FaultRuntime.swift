#if !os(Linux)
  #error("FaultRuntime is for Linux: it is built on userfaultfd(2).")
#endif

/// Serves the page faults of lazy regions.
///
/// ```swift
/// let runtime = try FaultRuntime()
/// let weights = try runtime.map(FileProvider("weights.bin"))
/// let bytes = weights.bytes   // nothing has been read yet; touch a byte, and its page is there
/// ```
///
/// A runtime has threads of its own, which read faults from a userfaultfd and resolve them. It lives as long as it or one of
/// its regions is held. All of it may be used from any thread.
///
/// After `fork(2)` regions belong to the parent: in the child their memory is not mapped, a touch is SIGSEGV, and `map` throws.
public final class FaultRuntime: Sendable {
  private let engine: Engine

  /// Opens the descriptors and starts the handler threads.
  ///
  /// Where the host allows no userfaultfd, and the configuration leaves everything to the runtime, regions are served by
  /// ``Delivery/sigsegv``, which is said once (``FaultRuntimeConfiguration/onNotice``).
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `userfaultfdUnavailable` where the host does not allow a userfaultfd that the
  ///   configuration asks for (it says what was tried and what would help), `cannotStart` where descriptors or threads are used up,
  ///   `cannotKeepCPUsAwake` where that was asked for and is not permitted, `invalidConfiguration` where a value is out of its range.
  public init(_ configuration: FaultRuntimeConfiguration = FaultRuntimeConfiguration()) throws(FaultRuntimeError) {
    engine = try Engine(configuration)
  }

  /// Maps a region that `provider` fills, as long as the provider says. Nothing is read yet.
  ///
  /// Blocks for a few system calls. O(open regions).
  ///
  /// - Parameters:
  ///   - provider: produces the pages, and knows how many bytes there are.
  ///   - options: a name for error messages, and whether the memory can be written.
  /// - Throws: ``FaultRuntimeError`` where the provider has no bytes (`emptyRegion`), where the address space cannot be had
  ///   (`cannotMap`), where the kernel refuses to report its faults (`cannotRegister`), or in a forked child (`forkedChild`).
  public func map(
    _ provider: some SizedPageProvider, options: RegionOptions = RegionOptions()
  ) throws(FaultRuntimeError) -> LazyRegion {
    try engine.map(provider, byteCount: provider.byteCount, options: options)
  }

  /// Maps a region of `byteCount` bytes that `provider` fills. Nothing is read yet.
  ///
  /// The memory is private to this process and reserves nothing, so a region may be far larger than the machine's memory.
  /// Blocks for a few system calls. O(open regions).
  ///
  /// - Parameters:
  ///   - provider: produces the pages.
  ///   - byteCount: any length from 1. It is rounded up to whole pages; what is behind it in the last page is zero.
  ///   - options: a name for error messages, and whether the memory can be written.
  /// - Throws: as ``map(_:options:)`` does.
  public func map(
    _ provider: some PageProvider, byteCount: Int, options: RegionOptions = RegionOptions()
  ) throws(FaultRuntimeError) -> LazyRegion {
    try engine.map(provider, byteCount: byteCount, options: options)
  }

  /// Which delivery a region over `provider` gets from ``map(_:options:)``, and why. It is told as well where `map` refuses
  /// it with the code `providerForbidsDelivery`: where the provider or the region's deadline does not permit the only delivery
  /// that there is.
  public func deliveryChoice(
    for provider: some PageProvider, options: RegionOptions = RegionOptions()
  ) -> DeliveryChoice { engine.choose(for: provider, options: options) }

  /// Which way to a userfaultfd the event loop took; without an event loop, which way the faulting threads' descriptor came;
  /// nil where there is none.
  public var descriptor: DescriptorKind? { engine.descriptor }

  /// The features that the kernel offers for this descriptor.
  public var availableFeatures: UserfaultfdFeatures { engine.availableFeatures }

  /// Bytes in a page of this host.
  public var pageSize: Int { engine.pageSize.bytes }

  /// Number of regions that are open. Takes a lock.
  public var regionCount: Int { engine.regionCount }

  /// What has been done since the runtime was made.
  public var statistics: FaultStatistics { engine.statistics }
}
