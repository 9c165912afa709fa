internal import CUFFD

/// A thread that writes to standard error why a page failed, for a thread that is about to die of that page. The two
/// meet in C (`cuffd_last_words`). Each runtime has such a thread, and any of them may write the line. The calls are
/// inlined, so that a runtime whose pages do not fail reads in no code of this file.
@safe
// Safe to share: the writer is made of atomic numbers.
struct LastWords: ~Copyable, @unchecked Sendable {
  private let writer: OpaquePointer

  /// Makes a writer without its thread. Returns nil if there is no memory, and then nothing is written.
  @inline(__always)
  init?() {
    guard let made = unsafe cuffd_writer_create({ unsafe LastWords.serve($0) }) else { return nil }
    unsafe writer = made
  }

  /// Starts the thread, unless it runs already. Where it cannot be started, nothing is written.
  @inline(__always)
  func start() { unsafe cuffd_writer_start(writer) }

  /// Ends the thread, and waits until it has ended, or until the time is up. Called once at most.
  @inline(__always)
  func stop(nanoseconds: UInt64) { unsafe cuffd_writer_stop(writer, nanoseconds) }

  deinit { unsafe cuffd_writer_release(writer) }

  /// Writes why a page failed, where it belongs to a region whose failures are explained.
  private static func serve(_ request: UnsafePointer<cuffd_request>) {
    let (address, number) = unsafe (UInt(request.pointee.address), request.pointee.number)
    let regions = AddressSpace.ofThisProcess.regions
    guard let region = regions.region(containing: address), region.isInOwnerProcess, region.explainsFailures,
      number == region.memory.failureSignal,
      let failure = region.failures.failure(at: region.offset(of: region.pageSize.pageStart(of: address)))
    else { return }
    let short = Array("FaultRuntime: \(failure.withCause("the text of the error could not be made"))\n".utf8)
    unsafe short.withUnsafeBytes { unsafe cuffd_request_found(request, $0.baseAddress!, $0.count) }
    let text = "\(failure)"
    if unsafe cuffd_request_begin_to_write(request) { writeToStandardError(text) }
  }
}
