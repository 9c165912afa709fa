internal import CUFFD

/// The owner of an epoll descriptor that watches a few others, level-triggered.
///
/// Level-triggered on purpose: an edge is lost unless every wake-up drains the descriptor with one more read, and that
/// read costs a system call for each fault.
struct Epoll: ~Copyable, Sendable {
  private let descriptor: CInt

  init() throws(HostCallError) {
    descriptor = cuffd_epoll_create()
    if let errno = KernelErrno(returned: descriptor) { throw HostCallError(call: "epoll_create1", errno: errno) }
  }

  deinit {
    _ = cuffd_close(descriptor)
  }

  func watch(_ other: CInt, token: UInt32) throws(HostCallError) {
    if let errno = KernelErrno(returned: cuffd_epoll_add(descriptor, other, token)) {
      throw HostCallError(call: "epoll_ctl", errno: errno)
    }
  }

  /// Waits for at most `milliseconds` (-1: without limit) and says which tokens have something to say.
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

/// Which watched descriptors have something to say, one bit for each token.
struct ReadySet: Sendable {
  fileprivate let input: UInt32
  fileprivate let error: UInt32

  var isEmpty: Bool { input | error == 0 }

  @inline(__always)
  func hasInput(_ token: UInt32) -> Bool { input & (1 << token) != 0 }

  @inline(__always)
  func hasError(_ token: UInt32) -> Bool { error & (1 << token) != 0 }
}
