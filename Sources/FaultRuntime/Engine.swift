internal import CUFFD
internal import Synchronization

/// The handler threads of a runtime and the table of its regions. The runtime and each of its regions hold it, so it ends
/// when the last of them is gone.
final class Engine: Sendable {
  let pageSize = PageSize.ofHost()
  let table = RegionTable()
  let handlers: [EventLoop]

  private let nextRegion = Atomic<Int>(0)
  private let ownerProcess = cuffd_process_id()

  init(_ configuration: FaultRuntimeConfiguration) throws(FaultRuntimeError) {
    try configuration.validate()
    var handlers: [EventLoop] = []
    do {
      for number in 0..<configuration.handlerThreads {
        try handlers.append(
          EventLoop(configuration: configuration, table: table, pageSize: pageSize, number: number))
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
    // The child's memory is not what the descriptor acts on: registering there would take the parent's pages away.
    guard cuffd_process_id() == ownerProcess else { throw .forkedChild() }
    let number = nextRegion.wrappingAdd(1, ordering: .relaxed).oldValue
    let core = try RegionCore(
      provider: provider, byteCount: byteCount, options: options, name: options.name ?? "region \(number)",
      pageSize: pageSize, handler: number % handlers.count)
    let handler = handlers[core.handler]
    try handler.open(core)
    return LazyRegion(core: core, handler: handler, engine: self)
  }

  var statistics: FaultStatistics {
    handlers.reduce(into: FaultStatistics()) { $0.add($1.counters.statistics) }
  }
}
