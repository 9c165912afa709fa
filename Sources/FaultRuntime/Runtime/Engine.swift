internal import CUFFD
internal import Synchronization

/// The handler threads of a runtime and the table of its regions. The runtime and each of its regions hold the
/// engine, so it ends when the last of them is gone.
final class Engine: Sendable {
  let pageSize = PageSize.ofHost()
  private let hugePageByteCount = Int(cuffd_huge_page_size())
  private let table = RegionTable<Region>()
  private let pool: ProviderPool
  /// Nil where the configuration needs no event loop, or where there is no userfaultfd.
  private let handlers: Handlers?
  private let watchdog: Watchdog?
  /// Nil where no region gets `sigbus`: the configuration says so, system calls have to be served, or there is no
  /// userfaultfd.
  private let faultingThreads: SigbusServer?
  /// Nil unless the configuration says `sigsegv`, or there is no userfaultfd where `auto` can do without one.
  private let protection: SigsegvServer?
  /// Why the runtime has no userfaultfd; nil where it has one or wants none.
  private let missingDescriptor: FaultRuntimeError?
  private let configuration: FaultRuntimeConfiguration
  /// Nil unless the configuration says `keepsCPUsAwake`.
  private let latencyHold: CPULatencyHold?

  private let nextRegion = Atomic<Int>(0)
  private let openRegions = Atomic<Int>(0)
  private let ownerProcess = cuffd_process_id()

  init(_ configuration: FaultRuntimeConfiguration) throws(FaultRuntimeError) {
    try configuration.validate()
    self.configuration = configuration
    latencyHold = try Self.holdLatency(configuration)
    let pool = ProviderPool(threadLimit: configuration.providerThreads, ownThreads: OwnThreads())
    self.pool = pool
    var servers: (faultingThreads: SigbusServer?, handlers: Handlers?) = (nil, nil)
    var missing: FaultRuntimeError?
    do throws(FaultRuntimeError) {
      servers.faultingThreads =
        configuration.wantsFaultingThreads
        ? try SigbusServer(configuration: configuration, pageSize: pageSize) : nil
      servers.handlers =
        configuration.wantsHandlers
        ? try Handlers(count: configuration.handlerThreads) { [pageSize, table] number throws(FaultRuntimeError) in
          try EventLoop(configuration: configuration, table: table, pageSize: pageSize, pool: pool, number: number)
        } : nil
    } catch {
      guard configuration.doesWithoutDescriptor, error.isOfHost else { throw error }
      servers = (nil, nil)
      missing = error
    }
    faultingThreads = servers.faultingThreads
    handlers = servers.handlers
    missingDescriptor = missing
    let notices = Notices(hook: configuration.onNotice)
    protection =
      configuration.delivery == .sigsegv || missing != nil
      ? try SigsegvServer(configuration: configuration, pageSize: pageSize, pool: pool, notices: notices) : nil
    if let missing {
      notices.say("\(missing.message); regions are served by sigsegv, the slowest delivery; \(missing.advice ?? "")")
    }
    watchdog = handlers.map { Watchdog($0) }
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
    watchdog?.stop(nanoseconds: closeTimeout)
    handlers?.stop(nanoseconds: closeTimeout)
    pool.stop(nanoseconds: closeTimeout)
  }

  func map<Provider: PageProvider>(
    _ provider: Provider, byteCount: Int, options: RegionOptions
  ) throws(FaultRuntimeError) -> LazyRegion {
    // In a forked child the descriptor still acts on the memory of the parent: registering the child's region would
    // take pages away from the parent.
    guard cuffd_process_id() == ownerProcess else { throw .forkedChild() }
    let number = nextRegion.wrappingAdd(1, ordering: .relaxed).oldValue
    let name = options.name ?? "region \(number)"
    let server = try server(for: provider, options: options, name: name)
    let handler = server as? EventLoop
    do throws(FaultRuntimeError) {
      let region = try Region(
        provider: provider, byteCount: byteCount, options: options, name: name, pageSize: pageSize,
        server: ObjectIdentifier(server), widestFault: server.widestFault,
        explainsFailures: configuration.explainsFailures
      ) { mapped throws(HostCallError) in
        try server.makeMemory(
          byteCount: mapped,
          // Huge pages can only be moved in where the addresses are aligned.
          alignment: mapped >= hugePageByteCount ? hugePageByteCount : 0,
          isWritable: options.access == .readWrite, pageSize: pageSize,
          isTaken: { table.intersects($0) || SignalDispatcher.shared.isTaken($0) })
      }
      if handler != nil { try watchdog?.watch(timeout: region.timeout) }
      do throws(FaultRuntimeError) {
        try server.open(region)
      } catch {
        watchdog?.regionEnded(timeout: region.timeout)
        throw error
      }
      openRegions.wrappingAdd(1, ordering: .relaxed)
      return LazyRegion(core: region, server: server, engine: self)
    } catch {
      handler?.regionEnded()
      throw error
    }
  }

  /// Returns the server of a new region. Where that is a handler, the region counts as one of its regions from then
  /// on.
  private func server(
    for provider: some PageProvider, options: RegionOptions, name: String
  ) throws(FaultRuntimeError) -> any RegionServer {
    if choose(for: provider, options: options).delivery == .eventLoop, let handlers { return handlers.next() }
    guard provider.mayRunInFaultingThread || protection != nil else { throw .providerForbidsDelivery(name: name) }
    guard options.timeout == nil else { throw .timeoutForbidsDelivery(name: name, without: missingDescriptor) }
    return protection ?? faultingThreads!
  }

  /// Ends the service of a region.
  func close(_ region: Region, _ server: any RegionServer) {
    server.close(region)
    openRegions.wrappingSubtract(1, ordering: .relaxed)
    watchdog?.regionEnded(timeout: region.timeout)
  }

  /// The close timeout of the configuration, in nanoseconds.
  var closeTimeout: UInt64 { configuration.closeTimeout.clampedNanoseconds }

  /// Returns the delivery that a region over `provider` gets, and the reason.
  func choose(for provider: some PageProvider, options: RegionOptions) -> DeliveryChoice {
    if configuration.delivery != .auto {
      return DeliveryChoice(delivery: configuration.delivery, reason: "the configuration says so")
    }
    let region = AutomaticDelivery(
      configuration, missingDescriptor.map { .refused($0.message) } ?? .available(availableFeatures),
      permitsFaultingThread: provider.mayRunInFaultingThread, hasTimeout: options.timeout != nil)
    guard case .choice(let choice) = region.outcome else {
      preconditionFailure("there is a runtime where `auto` has nothing for it")
    }
    return choice
  }

  /// The kind of the handlers' descriptor, or of the faulting threads' descriptor where there are no handlers; nil
  /// where there is no descriptor.
  var descriptor: DescriptorKind? { handlers?.all[0].descriptor ?? faultingThreads?.descriptor }
  var availableFeatures: UserfaultfdFeatures {
    handlers?.all[0].uffd.available ?? faultingThreads?.availableFeatures ?? []
  }

  var regionCount: Int { openRegions.load(ordering: .relaxed) }

  var statistics: FaultStatistics {
    var sum = faultingThreads?.statistics ?? protection?.statistics ?? FaultStatistics()
    for handler in handlers?.all ?? [] { sum.add(handler.statistics) }
    return sum
  }
}
