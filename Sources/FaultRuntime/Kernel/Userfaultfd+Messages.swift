internal import CUFFD

/// One `uffd_msg`, decoded.
enum FaultMessage: Hashable, Sendable {
  case pagefault(address: UInt, flags: FaultFlags, thread: UInt32)
  case fork(descriptor: CInt)
  case remap(from: UInt, to: UInt, byteCount: UInt64)
  case remove(start: UInt, end: UInt)
  case unmap(start: UInt, end: UInt)
  /// An event that this version does not know.
  case unknown(UInt8)

  init(_ raw: cuffd_msg) {
    switch CInt(raw.event) {
    case CUFFD_EVENT_PAGEFAULT:
      let fault = unsafe raw.arg.pagefault
      self = .pagefault(
        address: UInt(fault.address),
        flags: FaultFlags(rawValue: fault.flags),
        thread: unsafe fault.feat.ptid
      )
    case CUFFD_EVENT_FORK:
      self = unsafe .fork(descriptor: CInt(bitPattern: raw.arg.fork.ufd))
    case CUFFD_EVENT_REMAP:
      let remap = unsafe raw.arg.remap
      self = .remap(from: UInt(remap.from), to: UInt(remap.to), byteCount: remap.len)
    case CUFFD_EVENT_REMOVE:
      let remove = unsafe raw.arg.remove
      self = .remove(start: UInt(remove.start), end: UInt(remove.end))
    case CUFFD_EVENT_UNMAP:
      let remove = unsafe raw.arg.remove
      self = .unmap(start: UInt(remove.start), end: UInt(remove.end))
    default:
      self = .unknown(raw.event)
    }
  }
}

/// The kind of an access that faulted.
struct FaultFlags: OptionSet, Hashable, Sendable {
  var rawValue: UInt64

  static let write = Self(rawValue: CUFFD_PAGEFAULT_FLAG_WRITE)
  static let writeProtect = Self(rawValue: CUFFD_PAGEFAULT_FLAG_WP)
  static let minor = Self(rawValue: CUFFD_PAGEFAULT_FLAG_MINOR)

  /// What the fault is about. The kernel sets at most one of the flags `writeProtect` and `minor`.
  @inline(__always)
  var kind: FaultKind {
    if rawValue & (CUFFD_PAGEFAULT_FLAG_WP | CUFFD_PAGEFAULT_FLAG_MINOR) == 0 { return .missing }
    return contains(.minor) ? .minor : .writeProtect
  }
}

/// A buffer for messages. It is allocated once, and `Userfaultfd.read` can fill it any number of times.
struct MessageBuffer: ~Copyable {
  private var storage: [cuffd_msg]
  private(set) var count = 0

  init(capacity: Int) {
    precondition(capacity > 0, "a message buffer holds at least one message")
    storage = Array(repeating: cuffd_msg(), count: capacity)
  }

  @inline(__always)
  subscript(index: Int) -> FaultMessage {
    precondition(index >= 0 && index < count, "no such message")
    return FaultMessage(storage[index])
  }

  @inline(__always)
  fileprivate mutating func fill(from descriptor: CInt) -> CInt {
    let result = unsafe storage.withUnsafeMutableBufferPointer { buffer in
      unsafe cuffd_read(descriptor, buffer.baseAddress!, buffer.count)
    }
    count = max(0, Int(result))
    return result
  }
}

extension Userfaultfd {
  /// Reads as many messages as are waiting and as `buffer` holds, with one call of `read(2)`, without allocating.
  ///
  /// The buffer is empty afterwards if no message was waiting. This is normal even after epoll has reported one: when
  /// a page is resolved, the kernel takes the messages of all threads that waited for the page out of the queue.
  @inline(__always)
  func read(into buffer: inout MessageBuffer) throws(UserfaultfdError) {
    let result = buffer.fill(from: descriptor)
    guard let errno = KernelErrno(returned: result) else { return }
    if errno == .resourceTemporarilyUnavailable || errno == .interrupted { return }
    throw UserfaultfdError(call: .read, errno: errno)
  }
}
