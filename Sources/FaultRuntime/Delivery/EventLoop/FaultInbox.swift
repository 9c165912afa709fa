/// The faults that were read and have not been served yet.
///
/// Reading is separate from serving, because a resolution that gets `EAGAIN` has to read further messages before it
/// can go on: the kernel resolves nothing while an event is unread.
struct FaultInbox: ~Copyable {
  private var messages: MessageBuffer
  private let readCapacity: Int
  private let pageSize: PageSize
  private(set) var faults: FaultBatch
  /// The thread that made the latest fault; 0 where the kernel does not say.
  private(set) var latestThread: UInt32 = 0
  private let events: EventReporter

  /// Makes an inbox for reads of up to `readCapacity` messages.
  init(readCapacity: Int, pageSize: PageSize, events: EventReporter) {
    self.events = events
    messages = MessageBuffer(capacity: readCapacity)
    self.readCapacity = readCapacity
    self.pageSize = pageSize
    faults = Self.batch(readCapacity: readCapacity)
  }

  /// Returns a batch with room for everything that can be in an inbox: two reads, and as many faults that were put
  /// off as one read has.
  static func batch(readCapacity: Int) -> FaultBatch { FaultBatch(capacity: 3 * readCapacity) }

  var isEmpty: Bool { faults.count == 0 }

  /// Whether one more read fits. Messages that are not read stay in the kernel's queue.
  var hasRoom: Bool { faults.count <= readCapacity }

  /// Reads the messages that are waiting, up to the capacity of one read. Returns their number.
  @inline(__always)
  mutating func read(
    from uffd: borrowing Userfaultfd, ownThreads: OwnThreads, counting counters: borrowing HandlerCounters
  ) throws(UserfaultfdError) -> Int {
    try uffd.read(into: &messages)
    guard messages.count > 0 else { return 0 }
    var count = 0
    for index in 0..<messages.count {
      guard case .pagefault(let address, let flags, let thread) = messages[index] else {
        // The thread that caused this event can go on now, because the event has been read.
        events.handle(messages[index])
        continue
      }
      count += 1
      latestThread = thread
      faults.insert(
        PendingFault(
          page: pageSize.pageStart(of: address), isWrite: flags.contains(.write), kind: flags.kind,
          asker: ownThreads.contains(thread) ? thread : 0))
    }
    counters.countBatch(faults: count, messages: messages.count)
    return messages.count
  }

  /// Hands out everything that was read, in exchange for an empty batch.
  @inline(__always)
  mutating func take(for empty: inout FaultBatch) {
    swap(&faults, &empty)
  }

  mutating func insert(_ fault: PendingFault) { faults.insert(fault) }
}
