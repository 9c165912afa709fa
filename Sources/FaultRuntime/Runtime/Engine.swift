internal import CUFFD
internal import Synchronization

/// The handler threads of a runtime and the table of its regions. The runtime and each of its regions hold it, so it ends
/// when the last of them is gone.
final class Engine: Sendable {
  let pageSize = PageSize.ofHost()
  private let hugePageByteCount = Int(cuffd_huge_page_size())
  private let table = RegionTable()
  private let pool: ProviderPool
  /// Nil where the configuration wants none, or where there is no userfaultfd.
  private let handlers: Handlers?
  private let watchdog: Watchdog?
  /// Nil where the configuration wants none, where system calls have to be served, or where there is no userfaultfd.
  private let faultingThreads: SigbusServer?
  /// Nil unless the configuration says `sigsegv`, or there is no userfaultfd.
  private let protection: SigsegvServer?
  /// Why there is no userfaultfd, where one was wanted.
  private let missingDescriptor: FaultRuntimeError?
  private let configuration: FaultRuntimeConfiguration
  /// Nil unless the configuration says `keepsCPUsAwake`.
  private let latencyHold: CPULatencyHold?

  private let nextRegion = Atomic<Int>(0)
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
    let notices = Notices(configuration)
    protection =
      configuration.delivery == .sigsegv || missing != nil
      ? try SigsegvServer(configuration: configuration, pageSize: pageSize, notices: notices) : nil
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
    watchdog?.stop()
    handlers?.stop()
    protection?.stop(nanoseconds: configuration.closeTimeout.clampedNanoseconds)
    pool.stop(nanoseconds: configuration.closeTimeout.clampedNanoseconds)
  }

  func map<Provider: PageProvider>(
    _ provider: Provider, byteCount: Int, options: RegionOptions
  ) throws(FaultRuntimeError) -> LazyRegion {
    // The child's memory is not what the descriptor acts on: registering there would take the parent's pages away.
    guard cuffd_process_id() == ownerProcess else { throw .forkedChild() }
    let number = nextRegion.wrappingAdd(1, ordering: .relaxed).oldValue
    let name = options.name ?? "region \(number)"
    let choice = choose(for: provider, options: options)
    let server: RegionServer
    var handler: EventLoop?
    if choice.delivery == .eventLoop, let handlers {
      let next = handlers.next()
      handler = next
      server = .eventLoop(next)
    } else {
      guard provider.mayRunInFaultingThread || protection != nil else { throw .providerForbidsDelivery(name: name) }
      guard options.timeout == nil else { throw .timeoutForbidsDelivery(name: name, without: missingDescriptor) }
      server = protection.map { .protection($0) } ?? .faultingThreads(faultingThreads!)
    }
    do throws(FaultRuntimeError) {
      let core = try Region(
        provider: provider, byteCount: byteCount, options: options, name: name, pageSize: pageSize,
        hugePageByteCount: hugePageByteCount, handler: handler?.number,
        faultingThreads: handler == nil ? faultingThreads : nil, protection: protection,
        explainsFailures: configuration.explainsFailures,
        isTaken: { [table] in table.intersects($0) || SignalDispatcher.shared.isTaken($0) })
      if handler != nil { try watchdog?.watch(deadline: core.deadline) }
      do throws(FaultRuntimeError) {
        try server.open(core)
      } catch {
        watchdog?.regionEnded(deadline: core.deadline)
        throw error
      }
      return LazyRegion(core: core, server: server, engine: self)
    } catch {
      handler?.regionEnded()
      throw error
    }
  }

  /// Ends the service of a region.
  func close(_ region: Region, _ server: RegionServer) {
    server.close(region)
    watchdog?.regionEnded(deadline: region.deadline)
  }

  /// In nanoseconds.
  var closeTimeout: UInt64 { configuration.closeTimeout.clampedNanoseconds }

  /// Which delivery a region over `provider` gets.
  func choose(for provider: some PageProvider, options: RegionOptions) -> DeliveryChoice {
    if configuration.delivery != .auto {
      return DeliveryChoice(delivery: configuration.delivery, reason: "the configuration says so")
    }
    if let missingDescriptor {
      let asker = provider.mayRunInFaultingThread ? "" : "; the provider is asked on a thread of the runtime's own"
      return DeliveryChoice(delivery: .sigsegv, reason: missingDescriptor.message + asker)
    }
    if configuration.needsSystemCalls {
      return DeliveryChoice(delivery: .eventLoop, reason: "system calls have to be served")
    }
    guard provider.mayRunInFaultingThread else {
      return DeliveryChoice(delivery: .eventLoop, reason: "the provider does not permit the faulting thread")
    }
    guard options.timeout == nil else {
      return DeliveryChoice(delivery: .eventLoop, reason: "a timeout can only be kept by another thread")
    }
    return DeliveryChoice(delivery: .sigbus, reason: "the provider permits the faulting thread, which is fastest")
  }

  /// The handlers' descriptor, or the other one where there are no handlers; nil where there is none.
  var descriptor: DescriptorKind? { handlers?.all[0].uffd.kind ?? faultingThreads?.uffd.kind }
  var availableFeatures: UserfaultfdFeatures {
    handlers?.all[0].uffd.available ?? faultingThreads?.uffd.available ?? []
  }

  var regionCount: Int { table.count + (faultingThreads?.regionCount ?? 0) + (protection?.regionCount ?? 0) }

  var statistics: FaultStatistics {
    var sum = faultingThreads?.statistics ?? protection?.statistics ?? FaultStatistics()
    for handler in handlers?.all ?? [] { sum.add(handler.statistics) }
    return sum
  }
}
