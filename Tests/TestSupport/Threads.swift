import Glibc
import Synchronization
package import Testing

/// The result of a function that runs on a thread of its own. It does not run as a task, because a blocked task would
/// occupy a thread of the pool that the test itself needs. It does not use the library's threads either: those block
/// signals, and the signal of a failed fault must reach the handler of `read(_:)`.
@safe
// Safe to share: the value is written before `done` is set and read after that. Only the starter uses the handle.
package final class Later<Value: Sendable>: @unchecked Sendable {
  private let done = Atomic(false)
  private var value: Value?
  private var handle = pthread_t()

  package init(_ body: @escaping @Sendable () -> Value) {
    let start = unsafe Unmanaged.passRetained(
      Start { [self] in
        value = body()
        done.store(true, ordering: .releasing)
      })
    let result = unsafe pthread_create(
      &handle, nil,
      { context in
        unsafe Unmanaged<Start>.fromOpaque(context!).takeRetainedValue().body()
        return nil
      }, start.toOpaque())
    precondition(result == 0, "cannot start a thread")
  }

  package var isDone: Bool { done.load(ordering: .acquiring) }

  /// Waits for the end of the thread, with a time limit. Returns whether the thread has ended.
  @discardableResult
  package func join() -> Bool {
    guard eventually({ isDone }) else { return false }
    pthread_join(handle, nil)
    return true
  }

  /// Waits like `join` and returns the result. Throws an error if the thread has not ended.
  package func result(sourceLocation: SourceLocation = #_sourceLocation) throws -> Value {
    try #require(join(), "the thread is stuck", sourceLocation: sourceLocation)
    return try #require(value)
  }
}

/// A thread without a result.
package typealias TestThread = Later<Void>

private final class Start: Sendable {
  let body: @Sendable () -> Void
  init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}
