internal import CUFFD
internal import Synchronization

/// The services of a runtime, one for each delivery that its regions may get. The runtime and each of its regions hold
/// the engine, so it ends when the last of them is gone.
final class Engine: Sendable {
  let pageSize = PageSize.ofHost()
  private let hugePageByteCount = Int(cuffd_huge_page_size())
  private let pool: ProviderPool
  private let services: DeliveryServices
  private let configuration: FaultRuntimeConfiguration
  /// Nil unless the configuration says `explainsFailures`.
  private let lastWords: LastWords?
  /// Nil unless the configuration says `keepsCPUsAwake`.
  private let latencyHold: CPULatencyHold?

  private let nextRegion = Atomic<Int>(0)
  private let openRegions = Atomic<Int>(0)
  private let ownerProcess = cuffd_address_space()

  init(_ configuration: FaultRuntimeConfiguration) throws(FaultRuntimeError) {
    try configuration.validate()
    self.configuration = configuration
    lastWords = configuration.explainsFailures ? LastWords() : nil
    latencyHold = try Self.holdLatency(configuration)
    pool = ProviderPool(
      limits: PoolLimits(threads: configuration.providerThreads, patience: configuration.providerPatience),
      ownThreads: OwnThreads())
    services = try DeliveryServices(configuration, pageSize: pageSize, pool: pool)
  }

  private static func holdLatency(
    _ configuration: FaultRuntimeConfiguration
  ) throws(FaultRuntimeError) -> CPULatencyHold? {
    guard configuration.keepsCPUsAwake else { return nil }
    do {
      return try CPULatencyHold(path: configuration.cpuLatencyDevice)
    } catch {
      throw .cannotKeepCPUsAwake(error)
    }
  }

  deinit {
    // A forked child has none of the threads. It would wake those of the parent, over descriptors that both have.
    guard cuffd_address_space() == ownerProcess else { return }
    withoutCancellation {
      for service in services.all { service.stop(nanoseconds: closeTimeout) }
      pool.stop(nanoseconds: closeTimeout)
      lastWords?.stop(nanoseconds: closeTimeout)
    }
  }

  func map<Provider: PageProvider>(
    _ provider: Provider, byteCount: Int, options: RegionOptions
  ) throws(FaultRuntimeError) -> LazyRegion {
    // In a forked child the descriptor still acts on the memory of the parent: registering the child's region would
    // take pages away from the parent.
    guard cuffd_address_space() == ownerProcess else { throw .forkedChild() }
    let number = nextRegion.wrappingAdd(1, ordering: .relaxed).oldValue
    let name = options.name ?? "region \(number)"
    let delivery = try delivery(for: provider, options: options, name: name)
    let service = services[delivery]
    let server = service.takeServer()
    lastWords?.start()
    do throws(FaultRuntimeError) {
      let region = try Region(
        provider: provider, byteCount: byteCount, options: options, name: name, pageSize: pageSize, server: server,
        widestFault: server.widestFault, explainsFailures: configuration.explainsFailures,
        isAskedAnywhere: server.delivery == .sigsegv
      ) { mapped throws(HostCallError) in
        try server.makeMemory(
          byteCount: mapped,
          // Huge pages can only be moved in where the addresses are aligned.
          alignment: mapped >= hugePageByteCount ? hugePageByteCount : 0,
          isWritable: options.access == .readWrite, pageSize: pageSize)
      }
      try server.open(region)
      openRegions.wrappingAdd(1, ordering: .relaxed)
      return LazyRegion(core: region, server: server, engine: self)
    } catch {
      service.release(server)
      throw error
    }
  }

  /// Returns the delivery of a new region.
  private func delivery(
    for provider: some PageProvider, options: RegionOptions, name: String
  ) throws(FaultRuntimeError) -> Delivery {
    let delivery = choose(for: provider, options: options).delivery
    if delivery == .sigbus, !provider.mayRunInFaultingThread { throw .providerForbidsDelivery(name: name) }
    if delivery != .eventLoop, options.timeout != nil {
      throw .timeoutForbidsDelivery(name: name, without: services.missingDescriptor)
    }
    return delivery
  }

  /// Ends the service of a region.
  func close(_ region: Region, _ server: any RegionServer) {
    server.close(region)
    holdingSignals { services[server.delivery].release(server) }
    openRegions.wrappingSubtract(1, ordering: .relaxed)
  }

  /// The close timeout of the configuration, in nanoseconds.
  var closeTimeout: UInt64 { configuration.closeTimeout.clampedNanoseconds }

  /// Returns the delivery that a region over `provider` gets, and the reason.
  func choose(for provider: some PageProvider, options: RegionOptions) -> DeliveryChoice {
    if configuration.delivery != .auto {
      return DeliveryChoice(delivery: configuration.delivery, reason: "the configuration says so")
    }
    let region = AutomaticDelivery(
      configuration, services.missingDescriptor.map { .refused($0.message) } ?? .available(availableFeatures),
      permitsFaultingThread: provider.mayRunInFaultingThread, hasTimeout: options.timeout != nil)
    guard case .choice(let choice) = region.outcome else {
      preconditionFailure("there is a runtime where `auto` has nothing for it")
    }
    return choice
  }

  /// The kind of the first service's descriptor; nil where there is no descriptor.
  var descriptor: DescriptorKind? { services.all[0].descriptor }
  var availableFeatures: UserfaultfdFeatures { services.all[0].availableFeatures }

  var regionCount: Int { openRegions.load(ordering: .relaxed) }

  var statistics: FaultStatistics {
    var sum = FaultStatistics()
    for service in services.all { sum.add(service.statistics) }
    return sum
  }
}
