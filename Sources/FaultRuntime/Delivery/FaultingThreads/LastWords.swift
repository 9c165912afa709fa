internal import CUFFD
internal import Synchronization

/// A thread that writes to standard error why a page failed, for a thread that is about to die of that page. The two
/// meet in C (`cuffd_last_words`). The writers of all runtimes do the same work.
@safe
// Safe to share: the writer is one atomic flag, and the lock protects the rest.
final class LastWords: @unchecked Sendable {
  private struct State {
    var thread: FaultThread?
    var isStopping = false
  }

  private let state = Monitor(State())
  private let isRunning = Atomic<Bool>(false)
  private let writer: OpaquePointer

  init() {
    guard let created = unsafe cuffd_writer_create() else {
      fatalError("FaultRuntime: no memory for a flag of one byte")
    }
    unsafe writer = created
  }

  // The thread holds this object, so it has ended.
  deinit { unsafe cuffd_writer_destroy(writer) }

  /// Starts the thread, unless it runs already. Where it cannot be started, nothing is written.
  func start() {
    if isRunning.load(ordering: .relaxed) { return }
    state.withLock { state in
      guard state.thread == nil, !state.isStopping else { return }
      // A page may fail before the thread has begun to run.
      cuffd_writer_begin()
      state.thread = try? FaultThread(name: "fault-words", stackByteCount: 1 << 18) { [self] in run() }
      if state.thread == nil { cuffd_writer_end() }
      isRunning.store(state.thread != nil, ordering: .relaxed)
    }
  }

  /// Ends the thread, and waits until it has ended, or until the time is up: the text of an error is code of the
  /// program.
  func stop(nanoseconds: UInt64) {
    let thread = state.withLock { state in
      state.isStopping = true
      return state.thread
    }
    unsafe cuffd_writer_stop(writer)
    thread?.end(nanoseconds: nanoseconds)
  }

  private func run() {
    var number: CInt = 0
    var address: UInt64 = 0
    while unsafe cuffd_writer_next(writer, &number, &address) {
      write(number, UInt(address))
      cuffd_writer_finish()
    }
    cuffd_writer_end()
  }

  /// Writes why the page at `address` failed, where it belongs to a region whose failures are explained.
  private func write(_ number: CInt, _ address: UInt) {
    let regions = AddressSpace.ofThisProcess.regions
    guard let region = regions.region(containing: address), region.isInOwnerProcess, region.explainsFailures,
      number == region.memory.failureSignal
    else { return }
    let offset = region.offset(of: region.pageSize.pageStart(of: address))
    guard let failure = region.failures.failure(at: offset) else { return }
    var name = failure.region, provider = failure.provider
    let text = name.withUTF8 { name in
      provider.withUTF8 { provider in
        var page = unsafe cuffd_failed_page(
          region: name.baseAddress, region_length: name.count, offset: UInt64(failure.offset),
          provider: provider.baseAddress, provider_length: provider.count)
        unsafe cuffd_writer_found(&page)
        let text = "\(failure)"
        cuffd_writer_text_made()
        return text
      }
    }
    writeToStandardError(text)
  }
}
