/// The other faults that a thread is answering when it comes to answer one more: a provider that runs on the faulting
/// thread has touched lazy memory itself.
struct FaultNesting {
  /// The page of the latest fault that the thread is answering, if one more answer would never end or would take too
  /// much of the stack; otherwise 0.
  var outerPage: UInt

  /// The number of faults that the thread is answering, if they are too many; otherwise 0.
  var tooMany: Int

  /// How much of the alternate stack is left, in bytes; `UInt64.max` on another stack.
  var stackRoom: UInt64

  /// Whether the provider may be asked.
  @inline(__always)
  var permitsAnswer: Bool { outerPage == 0 }
}
