import CReference
import FaultRuntime
import Glibc

/// Somebody who serves the faults of a fresh mapping.
protocol Contender {
  var name: String { get }

  /// Starts the handler, maps, calls `body` with the start of the mapping, and takes everything down again.
  func serve(_ memory: SourceMemory, _ body: (UnsafeRawPointer) throws -> Void) throws
}

/// The C handler.
struct CEpollContender: Contender {
  let name: String

  func serve(_ memory: SourceMemory, _ body: (UnsafeRawPointer) throws -> Void) throws {
    var call: UnsafePointer<CChar>?
    var error: CInt = 0
    let options = creference_options(strategy: CREFERENCE_EPOLL, unit: memory.pageSize, source_fd: -1)
    guard
      let reference = unsafe creference_start(memory.bytes.count, memory.bytes.baseAddress!, options, &call, &error)
    else {
      let name = unsafe call.map { unsafe String(cString: $0) } ?? "nothing"
      throw BenchmarkError("the C handler cannot start: \(name) failed (\(KernelErrno(rawValue: error)))")
    }
    defer { unsafe creference_stop(reference) }
    try unsafe body(creference_base(reference))
  }
}

/// The library. Its runtime is started for each round, as the C handler is.
struct EventLoopContender: Contender {
  static let name = "event-loop"

  var name: String = EventLoopContender.name
  var placement = HandlerPlacement.automatic
  var keepsCPUsAwake = false
  var plant: PlantedRegression?

  func serve(_ memory: SourceMemory, _ body: (UnsafeRawPointer) throws -> Void) throws {
    let runtime = try FaultRuntime(
      FaultRuntimeConfiguration(
        delivery: .eventLoop,
        placement: placement,
        keepsCPUsAwake: keepsCPUsAwake,
        onFailure: { failure in Diagnostics.failImmediately("\(failure)") }
      )
    )
    let byteCount = unsafe memory.bytes.count
    let region = try runtime.map(LendingProvider(memory: memory, plant: plant), byteCount: byteCount)
    defer { region.close() }
    try unsafe body(region.unsafeBytes.baseAddress!)

    // A touch that was no fault, or a fault that brought more than a page, would not be what the C handler does.
    let statistics = runtime.statistics
    let pages = byteCount / memory.pageSize
    guard statistics.faults == pages, statistics.requests == pages, statistics.bytesFilled == byteCount else {
      throw BenchmarkError("\(pages) touches were served as \(statistics)")
    }
  }
}
