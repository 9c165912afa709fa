import CUFFD
import Glibc

@testable import FaultRuntime

/// A pipe as the source of messages. `read(2)` cannot tell it from a userfaultfd.
private final class MessagePipe: Sendable {
  let input: CInt
  private let output: CInt
  let uffd: Userfaultfd

  init() {
    var ends: [CInt] = [0, 0]
    require(unsafe pipe(&ends) == 0, "no pipe")
    for end in ends { require(fcntl(end, F_SETFL, O_NONBLOCK) == 0, "a pipe that blocks") }
    output = ends[0]
    input = ends[1]
    uffd = Userfaultfd(descriptor: ends[0], kind: .userModeOnly, enabled: .threadID, available: .threadID)
  }

  deinit {
    close(input)
    // The library closes no file that is not its own kind.
    close(output)
  }

  /// Writes as many of the bytes as fit, and returns how many.
  func send(_ bytes: [UInt8]) -> Int {
    max(0, unsafe bytes.withUnsafeBytes { unsafe write(input, $0.baseAddress, $0.count) })
  }
}

/// Treats arbitrary bytes as messages, and reads, defers and hands them out as a handler does. A dictionary does the
/// same, and the results must agree.
struct InboxModel: ~Copyable {
  private var inbox: FaultInbox
  private var batch: FaultBatch
  private var deferred: FaultBatch
  private let pipe = MessagePipe()
  private let counters = HandlerCounters()
  private let capacity: Int
  private let table = RegionTable<Region>()
  private let regions: [Region]
  private let ownThreads = OwnThreads()
  private let ownThread = cuffd_thread_id()

  private var queued: [UInt8] = []
  private var waiting: [ModelKey: PendingFault] = [:]
  private var putOff: [ModelKey: PendingFault] = [:]
  private var thread: UInt32 = 0
  private var faultCount = 0
  private var largestRead = 0
  private var clock: UInt64 = 1

  static func check(_ input: inout FuzzInput) {
    var model = InboxModel(capacity: 1 + input.below(8), regions: [input.region(), input.region()])
    while !input.isEmpty { model.round(&input) }
  }

  private init(capacity: Int, regions: [Region]) {
    self.capacity = capacity
    self.regions = regions
    let table = table
    for region in regions { table.insert(region) }
    ownThreads.addCaller()
    let events = EventReporter(table: table, userfaultfd: Region.userfaultfd) { event in
      let range = event.range
      let isWithin = regions.contains { $0.name == event.region && range.upperBound <= $0.range.byteCount }
      require(isWithin && range.lowerBound >= 0 && !range.isEmpty, "\(event) is of no region")
    }
    inbox = FaultInbox(readCapacity: capacity, pageSize: .ofHost(), events: events)
    batch = FaultInbox.batch(readCapacity: capacity)
    deferred = FaultBatch(capacity: capacity)
  }

  deinit {
    for region in regions {
      table.remove(region)
      // The moves that the messages claim did not happen, and the places that they name belong to other code.
      region.memory.parts.withLock { $0 = RegionParts(region.range) }
    }
  }

  /// Does one turn of the loop in `FaultService.run`.
  private mutating func round(_ input: inout FuzzInput) {
    send(&input)
    if inbox.hasRoom { read() }
    if deferred.count > 0 { takeDeferred() }
    serve(&input)
    if input.byte() < 16 {
      // In the handler, a thread can wait for every message that was queued before.
      read()
      serve(&input)
    }
  }

  private mutating func send(_ input: inout FuzzInput) {
    let size = MemoryLayout<cuffd_msg>.size
    var bytes = input.prefix(size * input.below(3 * capacity))
    for start in stride(from: 0, to: bytes.count - size + 1, by: size) {
      arrange(&bytes[start..<(start + size)])
    }
    queued += bytes.prefix(pipe.send(bytes))
  }

  /// Turns most messages into faults, and most faults into faults near each other, because otherwise few faults would
  /// meet. Bytes that a message does not use select the messages.
  private func arrange(_ message: inout ArraySlice<UInt8>) {
    let start = message.startIndex
    let choice = message[start + 1]
    if choice & 3 != 0 { message[start] = UInt8(CUFFD_EVENT_PAGEFAULT) }
    let isFault = message[start] == UInt8(CUFFD_EVENT_PAGEFAULT)
    if isFault {
      if choice & 12 != 0 { Self.put(Self.number(message[(start + 16)..<(start + 18)]), into: &message, at: 16) }
      if choice & 16 != 0 { Self.put(UInt64(ownThread), into: &message, at: 24) }
    } else if choice & 12 != 0 {
      message[start] = UInt8(CUFFD_EVENT_FORK) + (choice >> 4) % 4
      let region = regions[Int(choice >> 7)]
      let page = UInt64(PageSize.ofHost().bytes)
      for field in [8, 16, 24] {
        let pages = UInt64(message[start + field] & 0x7f)
        let base = field == 24 ? 0 : UInt64(region.range.start) - 32 * page
        Self.put(base + pages * page, into: &message, at: field)
      }
    }
    // A handler owns the descriptor of a fork that it reads, and closes it. This number certainly belongs to no
    // descriptor.
    if message[start] == UInt8(CUFFD_EVENT_FORK) { Self.put(UInt64(CInt.max), into: &message, at: 8) }
  }

  private static func put(_ value: UInt64, into message: inout ArraySlice<UInt8>, at offset: Int) {
    for index in 0..<8 {
      message[message.startIndex + offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
    }
  }

  private mutating func read() {
    let before = inbox.isEmpty
    do {
      let count = try inbox.read(from: pipe.uffd, ownThreads: ownThreads, counting: counters)
      let expected = min(queued.count / 32, capacity)
      require(count == expected, "\(count) messages of \(expected)")
      expect(count)
      require(before || count > 0 || !inbox.isEmpty, "faults got lost")
    } catch {
      require(false, "\(error)")
    }
  }

  /// Does in the model what reading `count` messages does.
  private mutating func expect(_ count: Int) {
    for start in stride(from: 0, to: 32 * count, by: 32) {
      let message = Array(queued[start..<(start + 32)])
      guard message[0] == UInt8(CUFFD_EVENT_PAGEFAULT) else { continue }
      let page = UInt(Self.number(message[16..<24])) / UInt(PageSize.ofHost().bytes) * UInt(PageSize.ofHost().bytes)
      thread = UInt32(Self.number(message[24..<28]))
      let asker = thread == ownThread ? thread : 0
      let kind: FaultKind = message[8] & 4 != 0 ? .minor : message[8] & 2 != 0 ? .writeProtect : .missing
      Self.merge(PendingFault(page: page, isWrite: message[8] & 1 != 0, kind: kind, asker: asker), into: &waiting)
      faultCount += 1
    }
    queued.removeFirst(min(queued.count, 32 * capacity))
    largestRead = max(largestRead, count)
    let statistics = counters.statistics
    require(inbox.latestThread == thread, "the thread is \(inbox.latestThread), not \(thread)")
    require(statistics.faults == faultCount && statistics.largestBatch == largestRead, "wrong counts: \(statistics)")
  }

  private mutating func takeDeferred() {
    compare(deferred, with: putOff)
    for index in 0..<deferred.count { inbox.insert(deferred[index]) }
    deferred.removeAll()
    for fault in putOff.values { Self.merge(fault, into: &waiting) }
    putOff = [:]
  }

  private mutating func serve(_ input: inout FuzzInput) {
    inbox.take(for: &batch)
    compare(batch, with: waiting)
    require(inbox.isEmpty, "the inbox was handed out, and still has something")
    waiting = [:]
    for index in 0..<batch.count {
      let choice = input.byte()
      // A handler reads on if a request fails with EAGAIN.
      if choice & 3 == 3, inbox.hasRoom { read() }
      if choice & 12 == 12, !deferred.isFull {
        var fault = batch[index]
        clock += 1
        if fault.deferredSince == 0 { fault.deferredSince = clock }
        fault.hasFailed = fault.hasFailed || choice & 16 != 0
        deferred.insert(fault)
        Self.merge(fault, into: &putOff)
      }
    }
    batch.removeAll()
  }

  private func compare(_ batch: borrowing FaultBatch, with model: [ModelKey: PendingFault]) {
    let expected = model.values.sorted { ($0.page, $0.kind.rawValue) < ($1.page, $1.kind.rawValue) }
    require(batch.count == expected.count, "\(batch.count) faults in place of \(expected.count)")
    for index in 0..<batch.count {
      require(batch[index] == expected[index], "fault \(index) is \(batch[index]), not \(expected[index])")
    }
  }

  private static func merge(_ fault: PendingFault, into model: inout [ModelKey: PendingFault]) {
    let key = ModelKey(page: fault.page, kind: fault.kind)
    guard let other = model[key] else {
      model[key] = fault
      return
    }
    let times = [fault.deferredSince, other.deferredSince].filter { $0 != 0 }
    model[key] = PendingFault(
      page: fault.page, isWrite: fault.isWrite || other.isWrite, kind: fault.kind, asker: max(fault.asker, other.asker),
      deferredSince: times.min() ?? 0,
      hasFailed: fault.hasFailed || other.hasFailed)
  }

  private static func number(_ bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }
}

/// The key of the model. Faults of the same page and kind are one fault.
private struct ModelKey: Hashable {
  var page: UInt
  var kind: FaultKind
}
