/// The services of the deliveries that the regions of a runtime may get.
struct DeliveryServices: Sendable {
  /// All services, never none. Where there are several, the first one belongs to the delivery that serves every
  /// provider.
  let all: [any DeliveryService]

  /// Why the runtime has no userfaultfd; nil where it has one or wants none.
  let missingDescriptor: FaultRuntimeError?

  /// Makes the services that the configuration may need. Where the host allows no userfaultfd, and `auto` can do
  /// without one, `sigsegv` takes the place of the others.
  init(
    _ configuration: FaultRuntimeConfiguration, pageSize: PageSize, pool: ProviderPool
  ) throws(FaultRuntimeError) {
    var services: [any DeliveryService] = []
    let wanted = configuration.wantedDeliveries
    var missing: FaultRuntimeError?
    do throws(FaultRuntimeError) {
      // The event loop comes last, because it is the only service that would have to be stopped after an error.
      for delivery in [Delivery.sigbus, .sigsegv, .eventLoop] where wanted.contains(delivery) {
        services.insert(try Self.service(delivery, configuration, pageSize: pageSize, pool: pool), at: 0)
      }
    } catch {
      guard configuration.doesWithoutDescriptor, error.isOfHost else { throw error }
      services = [try Self.service(.sigsegv, configuration, pageSize: pageSize, pool: pool)]
      missing = error
      Notices(hook: configuration.onNotice).say(AutomaticDelivery.notice(of: error))
    }
    missingDescriptor = missing
    all = services
  }

  /// The service of a delivery that `auto` or the configuration has chosen for a region.
  subscript(_ delivery: Delivery) -> any DeliveryService {
    guard let service = all.first(where: { $0.delivery == delivery }) else {
      preconditionFailure("FaultRuntime: a region gets \(delivery), for which the runtime has no service")
    }
    return service
  }

  private static func service(
    _ delivery: Delivery, _ configuration: FaultRuntimeConfiguration, pageSize: PageSize, pool: ProviderPool
  ) throws(FaultRuntimeError) -> any DeliveryService {
    switch delivery {
    case .eventLoop:
      try Handlers(count: configuration.handlerThreads) { number, watchdog throws(FaultRuntimeError) in
        try EventLoop(
          configuration: configuration, pageSize: pageSize, pool: pool, watchdog: watchdog, number: number)
      }
    case .sigbus:
      try SigbusServer(configuration: configuration, pageSize: pageSize)
    case .sigsegv:
      try SigsegvServer(
        configuration: configuration, pageSize: pageSize, pool: pool, notices: Notices(hook: configuration.onNotice))
    default:
      preconditionFailure("FaultRuntime: no service for \(delivery)")
    }
  }
}
