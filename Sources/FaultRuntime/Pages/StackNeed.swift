/// How much of the stack an answer in a signal handler needs, in bytes, below the frame of the handler. A thread may
/// have a small alternate stack (`sigaltstack(2)`), and nothing stops code that goes beyond it. Each value is more than
/// the largest use that was measured, also at the first fault of a process. Code that is not optimized needs more.
enum StackNeed {
  #if DEBUG
    static let ofSimpleAnswer: UInt64 = 16 << 10
    static let ofFileAnswer: UInt64 = 16 << 10
    static let ofFailure: UInt64 = 14 << 10
  #else
    /// For a provider of this library that cannot throw, or for a thread that only waits for the pool. Measured: 3 KiB.
    static let ofSimpleAnswer: UInt64 = 4 << 10

    /// For a provider that reads a file, and may throw. Measured: 3 KiB where it does not throw.
    static let ofFileAnswer: UInt64 = 6 << 10

    /// For recording a failure whose error has been thrown. Measured: 5 KiB.
    static let ofFailure: UInt64 = 6 << 10
  #endif

  /// For a provider of the program. Its first call into a part of Swift's runtime needs the most. Measured: 15 KiB for
  /// an error that a provider throws, 22 KiB for other first calls.
  static let ofCode: UInt64 = 24 << 10

  /// For a hook of the program when a page has failed. Measured: 15 KiB where it makes the text of the error.
  static let ofHook: UInt64 = 20 << 10
}
