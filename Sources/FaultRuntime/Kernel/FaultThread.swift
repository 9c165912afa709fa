internal import CUFFD

/// A thread of the runtime's own: every signal is blocked on it, and it never belongs to Swift's cooperative pool.
struct FaultThread: Sendable {
  private let thread: cuffd_thread

  /// Starts `body` on a new thread with `stackByteCount` bytes of stack; `name` has at most 15 bytes.
  init(name: String, stackByteCount: Int, _ body: @escaping @Sendable () -> Void) throws(HostCallError) {
    final class Start: Sendable {
      let body: @Sendable () -> Void
      init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    let start = unsafe Unmanaged.passRetained(Start(body))
    var thread = cuffd_thread()
    let result = unsafe cuffd_thread_start(
      &thread, stackByteCount, name,
      { context in unsafe Unmanaged<Start>.fromOpaque(context).takeRetainedValue().body() },
      start.toOpaque()
    )
    if let errno = KernelErrno(returned: result) {
      unsafe start.release()
      throw HostCallError(call: "pthread_create", errno: errno)
    }
    self.thread = thread
  }

  /// Whether the caller runs on this thread.
  var isCurrent: Bool { cuffd_thread_is_current(thread) }

  /// Waits until the thread has ended. Not from the thread itself.
  func join() { _ = cuffd_thread_join(thread) }

  /// Waits until the thread has ended, or until the time is up. Whether it has; then it must not be detached.
  func join(nanoseconds: UInt64) -> Bool { cuffd_thread_join_within(thread, nanoseconds) == 0 }

  /// Lets the thread end by itself.
  func detach() { _ = cuffd_thread_detach(thread) }
}
