internal import CUFFD

/// Owns an epoll descriptor that watches at most four other descriptors, level-triggered.
///
/// The descriptor is level-triggered on purpose. An edge is lost unless the thread reads the watched descriptor until
/// it is empty after every wake-up, and that additional read would cost a system call for each fault.
struct Epoll: ~Copyable, Sendable {
  private let descriptor: CInt

  init() throws(HostCallError) {
    descriptor = cuffd_epoll_create()
    if let errno = KernelErrno(returned: descriptor) { throw HostCallError(call: "epoll_create1", errno: errno) }
    unsafe cuffd_note_own("epoll descriptor", descriptor)
  }

  deinit {
    cuffd_close_own(descriptor)
  }

  /// Ends the process with a line that says why, if the program has closed the descriptor or has put a file in its
  /// place.
  func endIfLost() {
    if cuffd_is_foreign(descriptor) { unsafe cuffd_end_without("epoll descriptor", descriptor) }
  }

  func watch(_ other: CInt, token: UInt32) throws(HostCallError) {
    if let errno = KernelErrno(returned: cuffd_epoll_add(descriptor, other, token)) {
      throw HostCallError(call: "epoll_ctl", errno: errno)
    }
  }

  /// Waits for at most `milliseconds` (-1: without limit), and returns which descriptors are ready. The set is empty
  /// when the time is up, or when a signal interrupted the wait.
  @inline(__always)
  func wait(milliseconds: CInt) throws(HostCallError) -> ReadySet {
    let ready = cuffd_epoll_wait(descriptor, milliseconds)
    if let errno = KernelErrno(returned: ready.result) {
      if errno == .interrupted { return ReadySet(input: 0, error: 0) }
      throw HostCallError(call: "epoll_wait", errno: errno)
    }
    return ReadySet(input: ready.input, error: ready.error)
  }
}

/// Which watched descriptors are ready, with one bit for each token.
struct ReadySet: Sendable {
  fileprivate let input: UInt32
  fileprivate let error: UInt32

  var isEmpty: Bool { input | error == 0 }

  @inline(__always)
  func hasInput(_ token: UInt32) -> Bool { input & (1 << token) != 0 }

  @inline(__always)
  func hasError(_ token: UInt32) -> Bool { error & (1 << token) != 0 }
}
