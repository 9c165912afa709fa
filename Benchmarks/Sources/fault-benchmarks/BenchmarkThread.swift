import FaultRuntime
import Glibc

/// A thread that another thread can join.
struct BenchmarkThread: Sendable {
  private final class Start: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }

  private let thread: pthread_t

  init(_ body: @escaping @Sendable () -> Void) throws {
    let start = unsafe Unmanaged.passRetained(Start(body))
    var thread = pthread_t()
    let result = unsafe pthread_create(
      &thread,
      nil,
      { context in
        let start = unsafe Unmanaged<Start>.fromOpaque(context!).takeRetainedValue()
        start.body()
        return nil
      },
      start.toOpaque()
    )
    guard result == 0 else {
      unsafe start.release()
      throw BenchmarkError("cannot start a thread (\(KernelErrno(rawValue: result)))")
    }
    self.thread = thread
  }

  func join() { pthread_join(thread, nil) }
}
