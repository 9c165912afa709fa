import CTestSupport
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// A forked child that touches memory on command.
final class Child: Sendable {
  private let child: cts_child

  /// Forks the child. Blocks until the event of the fork has been read, if there is one.
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

  /// Returns whether the child's own page table protects the page.
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

  /// Waits for a fault of `page`, and returns its flags.
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

  /// Calls `body` until the thread that caused an event has continued, because until then the kernel resolves
  /// nothing.
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

/// Calls `body`, which must throw the described error.
func expect(
  _ request: ResolveRequest, _ errno: KernelErrno, completed: Int = 0,
  sourceLocation: SourceLocation = #_sourceLocation,
  _ body: () throws(ResolveError) -> Void
) {
  let expected = ResolveError(request: request, errno: errno, completedByteCount: completed)
  #expect(throws: expected, sourceLocation: sourceLocation) { try body() }
}
