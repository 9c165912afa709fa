internal import Synchronization

/// The handler threads of a runtime and the table of its regions. The runtime and each of its regions hold it, so it ends
/// when the last of them is gone.
final class Engine: Sendable {
  let pageSize = PageSize.ofHost()
  let table = RegionTable()
  let handlers: [EventLoop]

  private let nextRegion = Atomic<Int>(0)

  init(_ configuration: FaultRuntimeConfiguration) throws(FaultRuntimeError) {
    try configuration.validate()
    var handlers: [EventLoop] = []
    do {
      for index in 0..<configuration.handlerThreads {
        try handlers.append(
          EventLoop(configuration: configuration, table: table, pageSize: pageSize, index: index))
      }
    } catch {
      for handler in handlers { handler.stop() }
      throw error
    }
    self.handlers = handlers
  }

  deinit {
    for handler in handlers { handler.stop() }
  }

  func map<Provider: PageProvider>(
    _ provider: Provider, byteCount: Int, options: RegionOptions
  ) throws(FaultRuntimeError) -> LazyRegion {
    let number = nextRegion.wrappingAdd(1, ordering: .relaxed).oldValue
    let core = try RegionCore(
      provider: provider, byteCount: byteCount, options: options, name: options.name ?? "region \(number)",
      pageSize: pageSize)
    let handler = handlers[number % handlers.count]
    try handler.open(core)
    return LazyRegion(core: core, handler: handler, engine: self)
  }

  var statistics: Statistics {
    handlers.reduce(into: Statistics()) { $0.add($1.counters.statistics) }
  }
}
