import CFaultReference
import FaultRuntime

/// Reports that a contender cannot start on this host.
struct CannotStart: Error {
  var reason: String
  /// The library's error; nil if the contender is not one of the library's.
  var cause: FaultRuntimeError?
}

/// The result of touching every page once.
struct Served {
  /// The nanoseconds from the first touch to the last.
  var nanoseconds: UInt64
  /// The number of faults that the library counted; nil for other contenders, which do not count faults.
  var faults: Int?
  /// The delivery that the library chose, and the reason.
  var choice: DeliveryChoice?
}

extension BenchContender {
  /// Creates a fresh mapping of the source, touches every page of `touch`, and removes the mapping.
  func serve(_ source: BenchSource, _ touch: inout BenchTouch, cpus all: [Int]) throws -> Served {
    if cpus == .impossible { throw CannotStart(reason: "needs more CPUs than this process may use") }
    defer { try? CPUs.run(on: all) }
    if let cpus = cpus.numbers { try CPUs.run(on: cpus.handler) }
    switch way {
    case .reference(let strategy): return try serveReference(strategy, source, &touch)
    case .library(let delivery, let placement):
      let configuration = FaultRuntimeConfiguration(
        delivery: delivery, placement: placement,
        onFailure: { failure in Diagnostics.failImmediately("\(failure)") })
      // The contender without configuration also uses the provider that a user would take.
      guard name != Self.defaultChoice else {
        return try unsafe serveLibrary(
          configuration,
          MemoryProvider(borrowing: UnsafeRawBufferPointer(start: source.base, count: source.byteCount)), source, &touch
        )
      }
      return try serveLibrary(configuration, BenchProvider(source, requests), source, &touch)
    }
  }

  private func serveReference(
    _ strategy: creference_strategy, _ source: BenchSource, _ touch: inout BenchTouch
  ) throws -> Served {
    var unit = source.pageSize
    if family == .reference, case .pages(let count) = requests { unit *= count }
    let options = creference_options(
      strategy: strategy, unit: unit, source_fd: source.descriptor)
    let byteCount = touch.order.count * source.pageSize
    var call: UnsafePointer<CChar>?
    var error: CInt = 0
    guard let reference = unsafe creference_start(byteCount, source.base, options, &call, &error) else {
      let name = unsafe call.map { unsafe String(cString: $0) } ?? "nothing"
      throw CannotStart(reason: "\(name) failed (\(KernelErrno(rawValue: error)))")
    }
    defer { unsafe creference_stop(reference) }
    if let cpus = cpus.numbers { try CPUs.run(on: cpus.touching) }
    return try unsafe Served(
      nanoseconds: touch.run(
        name, over: creference_base(reference), from: source, copying: strategy == CREFERENCE_ANONYMOUS))
  }

  private func serveLibrary(
    _ configuration: FaultRuntimeConfiguration, _ provider: some PageProvider, _ source: BenchSource,
    _ touch: inout BenchTouch
  ) throws -> Served {
    let pages = touch.order.count
    let runtime: FaultRuntime
    let region: LazyRegion
    var configuration = configuration
    // The notice is not printed, because the report says which delivery was chosen, and why.
    configuration.onNotice = { _ in }
    do {
      runtime = try FaultRuntime(configuration)
      region = try runtime.map(provider, byteCount: pages * source.pageSize)
    } catch {
      throw CannotStart(reason: error.description, cause: error)
    }
    defer { region.close() }
    if let cpus = cpus.numbers { try CPUs.run(on: cpus.touching) }
    let nanoseconds = try unsafe touch.run(
      name, over: UnsafeMutableRawPointer(mutating: region.unsafeBytes.baseAddress!), from: source, copying: false)
    let statistics = runtime.statistics
    try check(statistics.requests, touch, source, largest: provider.requestSize.largest)
    return Served(
      nanoseconds: nanoseconds, faults: statistics.faults, choice: runtime.deliveryChoice(for: provider))
  }

  /// Throws an error if the number of requests does not fit the name of the contender.
  private func check(
    _ count: Int, _ touch: BenchTouch, _ source: BenchSource, largest: Int
  ) throws(CommandFailure) {
    let pages = touch.order.count
    let fewest: Int
    // If several threads fault in the same unit, each fault may lead to a request for that unit.
    var most = touch.threads == 1 ? pages : Int.max
    switch requests {
    case .pages(let size):
      fewest = (pages + size - 1) / size
      if touch.threads == 1 { most = fewest }
    case .growing:
      let size = largest / source.pageSize
      // Requests must not grow for accesses that do not continue in sequence. Among few pages, some accesses are in
      // sequence by chance.
      fewest = touch.isRandom && pages >= 256 ? pages / 2 : (pages + size - 1) / size
    }
    guard (fewest...most).contains(count) else {
      let expected = fewest == most ? "\(fewest)" : "at least \(fewest)" + (most == .max ? "" : " and at most \(most)")
      throw CommandFailure(message: "\(name) made \(count) requests for \(pages) pages instead of \(expected)")
    }
  }
}

/// Lends pages of the source: the least work that a provider can do.
private struct BenchProvider: PageProvider {
  let source: BenchSource
  let requestSize: RequestSize

  init(_ source: BenchSource, _ requests: BenchContender.Requests) {
    self.source = source
    requestSize =
      switch requests {
      case .pages(let count): RequestSize(preferred: count * source.pageSize, largest: count * source.pageSize)
      // The request size of a MemoryProvider.
      case .growing: RequestSize(preferred: 1, largest: 256 << 10)
      }
  }

  /// The provider neither allocates nor waits.
  var permissions: ProviderPermissions { .inMemory }

  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    unsafe .lent(UnsafeRawBufferPointer(start: source.base + request.offset, count: request.byteCount))
  }
}
