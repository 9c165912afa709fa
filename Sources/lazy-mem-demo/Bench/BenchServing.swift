import CFaultReference
import FaultRuntime

/// A contender that this host does not let start.
struct CannotStart: Error {
  var reason: String
  /// Set where it was the library.
  var cause: FaultRuntimeError?
}

extension BenchContender {
  /// Maps the source afresh, has every page of `touch` touched, and takes everything down again. Returns the nanoseconds
  /// from the first touch to the last.
  func serve(_ source: BenchSource, _ touch: inout BenchTouch, cpus all: [Int]) throws -> UInt64 {
    if placement == .impossible { throw CannotStart(reason: "needs more CPUs than this process may use") }
    defer { try? CPUs.run(on: all) }
    if let cpus = placement.cpus { try CPUs.run(on: cpus.handler) }
    switch way {
    case .reference(let strategy): return try serveReference(strategy, source, &touch)
    case .library(let delivery): return try serveLibrary(delivery, source, &touch)
    }
  }

  private func serveReference(
    _ strategy: creference_strategy, _ source: BenchSource, _ touch: inout BenchTouch
  ) throws -> UInt64 {
    let isKernel = family == .kernel
    let options = creference_options(
      strategy: strategy, unit: (isKernel ? 1 : pagesPerFault) * source.pageSize, source_fd: source.descriptor)
    let byteCount = touch.order.count * source.pageSize
    var call: UnsafePointer<CChar>?
    var error: CInt = 0
    guard let reference = unsafe creference_start(byteCount, source.base, options, &call, &error) else {
      let name = unsafe call.map { unsafe String(cString: $0) } ?? "nothing"
      throw CannotStart(reason: "\(name) failed (\(KernelErrno(rawValue: error)))")
    }
    defer { unsafe creference_stop(reference) }
    if let cpus = placement.cpus { try CPUs.run(on: cpus.touching) }
    return try unsafe touch.run(
      name, over: creference_base(reference), from: source, copying: strategy == CREFERENCE_ANONYMOUS)
  }

  private func serveLibrary(
    _ delivery: Delivery, _ source: BenchSource, _ touch: inout BenchTouch
  ) throws -> UInt64 {
    let pages = touch.order.count
    let runtime: FaultRuntime
    let region: LazyRegion
    do {
      runtime = try FaultRuntime(
        FaultRuntimeConfiguration(
          delivery: delivery, onFailure: { failure in Diagnostics.failImmediately("\(failure)") }))
      region = try runtime.map(
        BenchProvider(source: source, pagesPerRequest: pagesPerFault), byteCount: pages * source.pageSize)
    } catch {
      throw CannotStart(reason: error.description, cause: error)
    }
    defer { region.close() }
    if let cpus = placement.cpus { try CPUs.run(on: cpus.touching) }
    let nanoseconds = try unsafe touch.run(
      name, over: UnsafeMutableRawPointer(mutating: region.unsafeBytes.baseAddress!), from: source, copying: false)

    // Or the number in the name would be a lie. Several threads that meet in a unit may each have it asked for.
    let requests = runtime.statistics.requests
    let expected = (pages + pagesPerFault - 1) / pagesPerFault
    guard touch.threads == 1 ? requests == expected : requests >= expected else {
      throw CommandFailure(message: "\(name) made \(requests) requests for \(pages) pages instead of \(expected)")
    }
    return nanoseconds
  }
}

/// Lends the source's pages, so many at a time and no more: the least work that a provider can do.
private struct BenchProvider: PageProvider {
  let source: BenchSource
  let requestSize: RequestSize

  init(source: BenchSource, pagesPerRequest: Int) {
    self.source = source
    let byteCount = pagesPerRequest * source.pageSize
    requestSize = RequestSize(preferred: byteCount, largest: byteCount)
  }

  /// It neither allocates nor waits.
  var mayBlock: Bool { false }
  var mayRunInFaultingThread: Bool { true }

  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    unsafe .lent(UnsafeRawBufferPointer(start: source.base + request.offset, count: request.byteCount))
  }
}
