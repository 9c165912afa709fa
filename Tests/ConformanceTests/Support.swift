import CTestSupport
import Glibc
import Synchronization
import Testing

@testable import FaultRuntime

/// What raw access to a byte did.
enum Access: Equatable, Sendable {
  case byte(UInt8)
  case signal(CInt)
  /// It took longer than any test waits, or the child was gone.
  case never
}

func read(_ address: UInt) -> Access {
  var value: UInt8 = 0
  let signal = unsafe cts_read_byte(address, &value)
  return signal == 0 ? .byte(value) : .signal(signal)
}

func write(_ value: UInt8, to address: UInt) -> Access {
  let signal = cts_write_byte(address, value)
  return signal == 0 ? .byte(value) : .signal(signal)
}

/// Ends the process of an exit test that hangs: a thread that waits for its event to be read cannot be told to give up.
func limitTime() { alarm(40) }

/// Polls until `condition` holds, for at most 20 seconds. Returns whether it does.
@discardableResult
func eventually(_ condition: () throws -> Bool) rethrows -> Bool {
  let deadline = ContinuousClock.now + .seconds(20)
  while try !condition() {
    if ContinuousClock.now > deadline { return false }
    sched_yield()
  }
  return true
}

/// What a thread of its own found out. A thread, because a blocked task would take one that the test needs itself.
final class Later<Value: Sendable>: Sendable {
  private let value = Monitor<Value?>(nil)
  private let handle = Monitor(pthread_t())

  init(_ body: @escaping @Sendable () -> Value) {
    let start = unsafe Unmanaged.passRetained(
      Start { [self] in
        let found = body()
        value.withLock { $0 = found }
      })
    let result = handle.withLock { handle in
      unsafe pthread_create(
        &handle, nil,
        { context in
          unsafe Unmanaged<Start>.fromOpaque(context!).takeRetainedValue().body()
          return nil
        }, start.toOpaque())
    }
    precondition(result == 0, "cannot start a thread")
  }

  var isDone: Bool { value.withLock { $0 != nil } }

  /// Waits for the end of the thread, with a time limit.
  func result(sourceLocation: SourceLocation = #_sourceLocation) throws -> Value {
    try #require(eventually { isDone }, "the thread is stuck", sourceLocation: sourceLocation)
    pthread_join(handle.withLock { $0 }, nil)
    return try #require(value.withLock { $0 })
  }
}

private final class Start: Sendable {
  let body: @Sendable () -> Void
  init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}

/// A forked child that touches memory when told.
final class Child: Sendable {
  private let child: cts_child

  /// Blocks while the event has not been read.
  init() {
    child = cts_child_start()
    precondition(child.process > 0, "cannot fork")
  }

  deinit { cts_child_end(child) }

  func begin(_ command: cts_command, _ range: AddressRange, _ value: UInt8 = 0) {
    cts_child_begin(child, command, range.start, value)
  }

  func finish() -> Access {
    let result = cts_child_finish(child, 30_000)
    if result >= 0 { return .byte(UInt8(truncatingIfNeeded: result)) }
    return result > -1000 ? .signal(-result) : .never
  }

  func read(_ range: AddressRange) -> Access {
    begin(CTS_READ, range)
    return finish()
  }

  func write(_ value: UInt8, to range: AddressRange) -> Access {
    begin(CTS_WRITE, range, value)
    return finish()
  }

  /// Whether the child's own page table protects the page.
  func isWriteProtected(_ range: AddressRange) -> Bool {
    begin(CTS_LOOK, range)
    guard case .byte(let bits) = finish() else {
      Issue.record("the child cannot read its pagemap")
      return false
    }
    return CInt(bits) & CTS_PAGE_WRITE_PROTECTED != 0
  }
}

extension Userfaultfd {
  static func open(_ features: UserfaultfdFeatures) throws -> Userfaultfd {
    let uffd = try open([.full, .device, .userModeOnly], wanting: features)
    try #require(uffd.enabled == features)
    return uffd
  }

  /// Waits for a message.
  func nextMessage(sourceLocation: SourceLocation = #_sourceLocation) throws -> FaultMessage {
    var buffer = MessageBuffer(capacity: 1)
    try #require(
      try eventually {
        try read(into: &buffer)
        return buffer.count == 1
      }, "no message", sourceLocation: sourceLocation)
    return buffer[0]
  }

  /// Waits for a fault of `page`, and returns what kind of access it was.
  func nextFault(
    in page: AddressRange, sourceLocation: SourceLocation = #_sourceLocation
  ) throws -> FaultFlags {
    let message = try nextMessage(sourceLocation: sourceLocation)
    guard case .pagefault(let address, let flags, _) = message, page.contains(address) else {
      Issue.record("not a fault of that page: \(message)", sourceLocation: sourceLocation)
      return []
    }
    return flags
  }

  /// Waits for the event of a fork. Returns the child's userfaultfd.
  func nextFork(sourceLocation: SourceLocation = #_sourceLocation) throws -> Userfaultfd {
    let message = try nextMessage(sourceLocation: sourceLocation)
    var child: CInt?
    if case .fork(let descriptor) = message { child = descriptor }
    let descriptor = try #require(child, "not a fork: \(message)", sourceLocation: sourceLocation)
    return Userfaultfd(descriptor: descriptor, kind: kind, enabled: enabled, available: available)
  }

  func hasMessage() throws -> Bool {
    var buffer = MessageBuffer(capacity: 1)
    try read(into: &buffer)
    return buffer.count > 0
  }

  /// Calls `body` until the thread that caused an event has run on: until then nothing is resolved.
  func afterEvent(_ body: () throws(ResolveError) -> Void) throws {
    var last: ResolveError?
    try #require(
      eventually {
        do throws(ResolveError) {
          try body()
          last = nil
        } catch { last = error }
        return last?.errno != .resourceTemporarilyUnavailable
      })
    if let last { throw last }
  }
}

/// Calls `body`, which must fail as described.
func expect(
  _ request: ResolveRequest, _ errno: KernelErrno, completed: Int = 0,
  sourceLocation: SourceLocation = #_sourceLocation,
  _ body: () throws(ResolveError) -> Void
) {
  let expected = ResolveError(request: request, errno: errno, completedByteCount: completed)
  do {
    try body()
    Issue.record("\(request.rawValue) succeeded", sourceLocation: sourceLocation)
  } catch {
    #expect(error == expected, sourceLocation: sourceLocation)
  }
}

/// Whether an event or a fault of this descriptor waits to be read.
func isReadable(_ descriptor: CInt) -> Bool {
  var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
  return unsafe poll(&entry, 1, 0) == 1 && entry.revents & Int16(POLLIN) != 0
}

/// The lines of a small text file; none where it cannot be read.
func lines(_ path: String) -> [String] {
  guard let file = unsafe fopen(path, "r") else { return [] }
  defer { unsafe fclose(file) }
  var lines: [String] = []
  var line = [CChar](repeating: 0, count: 512)
  while unsafe fgets(&line, CInt(line.count), file) != nil {
    let text = unsafe line.withUnsafeBufferPointer { unsafe String(cString: $0.baseAddress!) }
    lines.append(text.hasSuffix("\n") ? String(text.dropLast()) : text)
  }
  return lines
}
