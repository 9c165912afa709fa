internal import CUFFD
internal import Synchronization

/// The handler threads of a runtime and the table of its regions. The runtime and each of its regions hold it, so it ends
/// when the last of them is gone.
final class Engine: Sendable {
  let pageSize = PageSize.ofHost()
  private let hugePageByteCount = Int(cuffd_huge_page_size())
  private let table = RegionTable()
  private let pool: ProviderPool
  /// None where the configuration says `sigbus`.
  private let handlers: [EventLoop]
  /// Nil where the configuration says `eventLoop`, or where system calls have to be served.
  private let faultingThreads: InThreadServer?
  private let configuration: FaultRuntimeConfiguration
  /// Nil unless the configuration says `keepsCPUsAwake`.
  private let latencyHold: CPULatencyHold?

  private let nextRegion = Atomic<Int>(0)
  private let ownerProcess = cuffd_process_id()

  init(_ configuration: FaultRuntimeConfiguration) throws(FaultRuntimeError) {
    try configuration.validate()
    self.configuration = configuration
    latencyHold = try Self.holdLatency(configuration)
    let wantsHandlers = configuration.delivery != .sigbus
    let wantsFaultingThreads = configuration.delivery != .eventLoop && !configuration.needsSystemCalls
    faultingThreads =
      wantsFaultingThreads ? try InThreadServer(configuration: configuration, pageSize: pageSize) : nil
    pool = ProviderPool(threadLimit: configuration.providerThreads)
    var handlers: [EventLoop] = []
    do {
      for number in 0..<(wantsHandlers ? configuration.handlerThreads : 0) {
        try handlers.append(
          EventLoop(configuration: configuration, table: table, pageSize: pageSize, pool: pool, number: number))
      }
    } catch {
      for handler in handlers { handler.stop() }
      throw error
    }
    self.handlers = handlers
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
    for handler in handlers { handler.stop() }
    pool.stop(nanoseconds: configuration.closeDeadline.clampedNanoseconds)
  }

  func map<Provider: PageProvider>(
    _ provider: Provider, byteCount: Int, options: RegionOptions
  ) throws(FaultRuntimeError) -> LazyRegion {
    // The child's memory is not what the descriptor acts on: registering there would take the parent's pages away.
    guard cuffd_process_id() == ownerProcess else { throw .forkedChild() }
    let number = nextRegion.wrappingAdd(1, ordering: .relaxed).oldValue
    let name = options.name ?? "region \(number)"
    let choice = choose(for: provider)
    let server: RegionServer
    if choice.delivery == .sigbus, let faultingThreads {
      guard provider.mayRunInFaultingThread else { throw .providerForbidsDelivery(name: name) }
      server = .faultingThreads(faultingThreads)
    } else {
      server = .eventLoop(handlers[number % handlers.count])
    }
    let core = try RegionCore(
      provider: provider, byteCount: byteCount, options: options, name: name, pageSize: pageSize,
      hugePageByteCount: hugePageByteCount,
      handler: choice.delivery == .eventLoop ? number % handlers.count : nil,
      faultingThreads: choice.delivery == .sigbus ? faultingThreads : nil)
    try server.open(core)
    return LazyRegion(core: core, server: server, engine: self)
  }

  /// Which delivery a region over `provider` gets.
  func choose(for provider: some PageProvider) -> DeliveryChoice {
    if configuration.delivery != .auto {
      return DeliveryChoice(delivery: configuration.delivery, reason: "the configuration says so")
    }
    if configuration.needsSystemCalls {
      return DeliveryChoice(delivery: .eventLoop, reason: "system calls have to be served")
    }
    guard provider.mayRunInFaultingThread else {
      return DeliveryChoice(delivery: .eventLoop, reason: "the provider does not permit the faulting thread")
    }
    return DeliveryChoice(delivery: .sigbus, reason: "the provider permits the faulting thread, which is fastest")
  }

  /// The handlers' descriptor, or the other one where there are no handlers.
  var descriptor: DescriptorKind { handlers.first?.uffd.kind ?? faultingThreads?.uffd.kind ?? .userModeOnly }
  var availableFeatures: UserfaultfdFeatures {
    handlers.first?.uffd.available ?? faultingThreads?.uffd.available ?? []
  }

  var regionCount: Int { table.count + (faultingThreads?.regionCount ?? 0) }

  var statistics: FaultStatistics {
    var sum = faultingThreads?.statistics ?? FaultStatistics()
    for handler in handlers { sum.add(handler.statistics) }
    return sum
  }
}
