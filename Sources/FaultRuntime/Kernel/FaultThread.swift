internal import CUFFD

/// A thread that the runtime owns. Every signal except those of faults is blocked on it, and it never belongs to
/// Swift's cooperative pool.
struct FaultThread: Sendable {
  private let thread: cuffd_thread

  /// Starts `body` on a new thread with a stack of `stackByteCount` bytes. `name` has at most 15 bytes.
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
      // The C library says EAGAIN as well where there is no memory for the stack.
      let shortage = MemoryFacts.ofThisProcess().shortage(mapping: stackByteCount, .noMemory)
      throw HostCallError(call: "pthread_create", errno: errno, shortage: shortage == .unknown ? .threads : shortage)
    }
    self.thread = thread
  }

  /// Whether the caller runs on this thread.
  var isCurrent: Bool { cuffd_thread_is_current(thread) }

  /// Waits until the thread has ended. The thread must not call this function itself.
  func join() { _ = cuffd_thread_join(thread) }

  /// Waits until the thread has ended, or until the time is up. Returns whether the thread has ended; the caller must
  /// not detach it in that case.
  func join(nanoseconds: UInt64) -> Bool { cuffd_thread_join_within(thread, nanoseconds) == 0 }

  /// Waits until the thread has ended, or until the time is up. A thread that has not ended by then, or that calls
  /// this itself, is detached. The thread must be joined or detached in no other way.
  func end(nanoseconds: UInt64) {
    if isCurrent || !join(nanoseconds: nanoseconds) { detach() }
  }

  /// Gives up the right to join the thread. The system frees the thread's resources when the thread ends.
  func detach() { _ = cuffd_thread_detach(thread) }
}
