internal import Synchronization

/// Reads what the kernel reports of changes that the program makes to its memory (`mremap(2)`, `munmap(2)`), for a
/// delivery whose threads read no messages.
///
/// Without `UFFD_FEATURE_EVENT_REMAP` the kernel forgets the registration of moved memory, and its missing pages read
/// as zero. With it, the call that moves memory waits until its event has been read. A thread of this object therefore
/// reads events from the first region on until the runtime ends. The thread takes no part in faults.
final class EventReader: Sendable {
  private let userfaultfd: SharedUserfaultfd
  private let reporter: EventReporter
  private let onEvent: (@Sendable (RegionEvent) -> Void)?
  /// What `reporter` has reported while events were followed.
  private let heard: Monitor<[RegionEvent]>
  private let epoll: Epoll
  private let wakeup: WakeDescriptor

  private struct State: Sendable {
    var thread: FaultThread?
    var openRegions = 0
    var isStopping = false
    /// Whether memory stays registered after all regions were closed.
    var mustStay = false
    /// The open regions whose memory the program has moved or unmapped in part.
    var changed: [Region] = []
  }

  /// The thread holds this lock from before events are read until they have been followed.
  private let state = Monitor(State())
  private let mayHaveChanges = Atomic<Bool>(false)

  private enum Token {
    static let events: UInt32 = 0
    static let wakeup: UInt32 = 1
  }

  init(
    _ userfaultfd: SharedUserfaultfd, table: RegionTable<Region>, onEvent: (@Sendable (RegionEvent) -> Void)?
  ) throws(HostCallError) {
    self.userfaultfd = userfaultfd
    self.onEvent = onEvent
    let heard = Monitor<[RegionEvent]>([])
    self.heard = heard
    let hear: @Sendable (RegionEvent) -> Void = { event in heard.withLock { $0.append(event) } }
    reporter = EventReporter(table: table, userfaultfd: userfaultfd, onEvent: onEvent == nil ? nil : hear)
    epoll = try Epoll()
    wakeup = try WakeDescriptor()
    try epoll.watch(userfaultfd.uffd.descriptor, token: Token.events)
    try epoll.watch(wakeup.descriptor, token: Token.wakeup)
  }

  // MARK: Faulting threads

  /// Whether the program may have moved or unmapped memory of an open region, so that ``verdict(on:in:)`` has to be
  /// asked. Costs a load. A call that changes memory does not return before this is true.
  @inline(__always)
  var hasChanges: Bool { mayHaveChanges.load(ordering: .relaxed) }

  /// Returns what is at a page of a region's range: its own missing page, memory that was moved there, or memory of
  /// which nothing is known, such as that of another descriptor. Waits for events that are being followed.
  @inline(never)
  func verdict(on page: UInt, in region: Region) -> FaultVerdict {
    waitForEvents()
    if reporter.moved(to: page) != nil { return .moved }
    return region.memory.parts.withLock { $0.ranges.contains { $0.contains(page) } } ? .missing : .somebodyElses
  }

  /// Returns the region whose memory was moved to `page`, or nil where no moved memory is. Waits for events that are
  /// being followed.
  @inline(never)
  func origin(of page: UInt) -> Region? {
    waitForEvents()
    return reporter.moved(to: page)?.region
  }

  /// Waits until the events have been followed whose calls have returned.
  func waitForEvents() { state.withLock { _ in } }

  // MARK: Control, on any thread

  /// Notes that the memory of one more region will be registered, and starts the thread if it does not run yet.
  func regionBegins() throws(HostCallError) {
    // The thread has ended where the program has closed the descriptor meanwhile.
    epoll.endIfLost()
    let failure = state.withLock { state -> HostCallError? in
      do throws(HostCallError) {
        if state.thread == nil {
          state.thread = try FaultThread(name: "fault-events", stackByteCount: 1 << 18) { [self] in run() }
        }
        state.openRegions += 1
        return nil
      } catch {
        return error
      }
    }
    if let failure { throw failure }
  }

  /// Forgets a region that was closed, or could not be opened.
  func regionEnded(_ region: Region) {
    // The references are dropped outside of the lock.
    let forgotten = state.withLock { state in
      state.openRegions -= 1
      reporter.forget(region)
      let forgotten = state.changed.filter { $0 === region }
      state.changed.removeAll { $0 === region }
      mayHaveChanges.store(!state.changed.isEmpty, ordering: .relaxed)
      // The memory stays registered, and unmapping it would wait for this thread.
      if region.isLeftBehind { state.mustStay = true }
      return forgotten
    }
    withExtendedLifetime(forgotten) {}
  }

  /// Ends the thread, and waits for it, or until the time is up. Every region has to be closed before. Where memory had
  /// to stay registered, so does the thread.
  func stop(nanoseconds: UInt64) {
    let thread = state.withLock { state in
      state.isStopping = true
      return state.thread
    }
    guard let thread else { return }
    // The thread cannot be woken where the program has closed the descriptor for that.
    if wakeup.isLost { return thread.detach() }
    wakeup.signal()
    if state.withLock({ $0.mustStay }) {
      thread.detach()
    } else {
      thread.end(nanoseconds: nanoseconds)
    }
  }

  // MARK: The thread

  private func run() {
    var messages = MessageBuffer(capacity: 16)
    do {
      while true {
        let ready = try epoll.wait(milliseconds: -1)
        if ready.hasError(Token.events) { fatalError("FaultRuntime: the userfaultfd reports an error") }
        if ready.hasInput(Token.events) {
          // Another file in its place must not be read.
          userfaultfd.uffd.endIfLost()
          try read(into: &messages)
        }
        if ready.hasInput(Token.wakeup) {
          wakeup.clear()
          if state.withLock({ $0.isStopping && !$0.mustStay }) { return }
        }
      }
    } catch {
      // The program has closed the descriptors. Without a region there is nothing that they are needed for.
      if state.withLock({ $0.openRegions == 0 }) { return }
      // Calls of the program that change lazy memory would wait for ever.
      epoll.endIfLost()
      userfaultfd.uffd.endIfLost()
      fatalError("FaultRuntime: the thread that reads events cannot go on: \(error)")
    }
  }

  private func read(into messages: inout MessageBuffer) throws(UserfaultfdError) {
    let failure = state.withLock { state -> UserfaultfdError? in
      // The call that changes memory goes on as soon as its event is read. A fault after the call finds this set, and
      // waits for the lock.
      mayHaveChanges.store(true, ordering: .sequentiallyConsistent)
      do throws(UserfaultfdError) {
        try userfaultfd.uffd.read(into: &messages)
      } catch {
        return error
      }
      for index in 0..<messages.count {
        for region in reporter.handle(messages[index])
        where !region.isClosing && !state.changed.contains(where: { $0 === region }) {
          state.changed.append(region)
        }
      }
      mayHaveChanges.store(!state.changed.isEmpty, ordering: .sequentiallyConsistent)
      return nil
    }
    if let failure { throw failure }
    guard onEvent != nil else { return }
    let news = heard.withLock { heard in
      defer { heard = [] }
      return heard
    }
    // The hook is code of the program, so it does not run under the lock.
    for event in news { onEvent?(event) }
  }
}
