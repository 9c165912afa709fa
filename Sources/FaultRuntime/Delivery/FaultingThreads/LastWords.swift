internal import CUFFD

/// A thread that writes to standard error why a page failed, for a thread that is about to die of that page. The two
/// meet in C (`cuffd_last_words`). Each runtime has such a thread, and any of them may write the line.
final class LastWords: Sendable {
  private struct State {
    var thread: FaultThread?
    var isStopping = false
  }

  private let state = Monitor(State())

  /// Starts the thread, unless it runs already. Where it cannot be started, nothing is written.
  func start() {
    state.withLock { state in
      guard state.thread == nil, !state.isStopping else { return }
      // A page may fail before the thread has begun to run.
      cuffd_writers_add()
      // The text of an error is code of the program, as a provider is.
      state.thread = try? FaultThread(name: "fault-words", stackByteCount: 1 << 20) { [self] in run() }
      if state.thread == nil { cuffd_writers_remove() }
    }
  }

  /// Ends the thread, and waits until it has ended, or until the time is up.
  func stop(nanoseconds: UInt64) {
    let thread = state.withLock { state in
      state.isStopping = true
      return state.thread
    }
    cuffd_writers_ring()
    thread?.end(nanoseconds: nanoseconds)
  }

  private func run() {
    var request = cuffd_request()
    while true {
      let bell = cuffd_writers_bell()
      if unsafe cuffd_request_take(&request) {
        serve(&request)
        unsafe cuffd_request_finish(&request)
      } else if state.withLock({ $0.isStopping }) {
        break
      } else {
        cuffd_writers_wait(bell)
      }
    }
    cuffd_writers_remove()
  }

  /// Writes why a page failed, where it belongs to a region whose failures are explained.
  private func serve(_ request: inout cuffd_request) {
    let address = UInt(request.address)
    let regions = AddressSpace.ofThisProcess.regions
    guard let region = regions.region(containing: address), region.isInOwnerProcess, region.explainsFailures,
      request.number == region.memory.failureSignal,
      let failure = region.failures.failure(at: region.offset(of: region.pageSize.pageStart(of: address)))
    else { return }
    var withoutText = failure
    withoutText.cause = TextNotMade()
    let short = Array("FaultRuntime: \(withoutText)\n".utf8)
    unsafe short.withUnsafeBytes { unsafe cuffd_request_found(&request, $0.baseAddress!, $0.count) }
    let text = "\(failure)"
    if unsafe cuffd_request_begin_to_write(&request) { writeToStandardError(text) }
  }
}

/// Stands in a line for an error whose text was not made in time, or could not be made.
private struct TextNotMade: Error, CustomStringConvertible {
  var description: String { "(the text of the error could not be made)" }
}
