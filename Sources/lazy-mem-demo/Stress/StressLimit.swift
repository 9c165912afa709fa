import FaultRuntime

/// Limits of the process that keep a run from doing what it wants. They say nothing about the library.
enum StressLimit {
  /// Returns the name of the error, if a limit on threads or descriptors is its reason; nil for other errors. A lack
  /// of memory is none of them, because the kernel also reports it for mappings that the library has used up.
  static func name(of error: any Error) -> String? {
    guard let error = error as? FaultRuntimeError, let errno = error.errno else { return nil }
    // The kernel also answers EAGAIN to requests that are to be made again, which is not a limit.
    let isOfThreads = errno == .resourceTemporarilyUnavailable && error.code == .cannotStart
    return isOfThreads || descriptorLimits.contains(errno) ? "\(errno)" : nil
  }

  /// Returns the name of the reason why a page failed, if that is a limit on threads or descriptors.
  static func name(ofCause cause: any Error) -> String? {
    guard let error = cause as? ResolutionError, let errno = error.errno else { return nil }
    // A source that is late is asked by no further thread where none can be started.
    return error.code == .providerStuck || descriptorLimits.contains(errno) ? "\(errno)" : nil
  }

  private static let descriptorLimits: [KernelErrno] = [.tooManyOpenFiles, .tooManyOpenFilesInSystem]

  /// Returns what to do about an error, to be put behind its text.
  static func advice(for errno: KernelErrno) -> String {
    switch errno {
    case .resourceTemporarilyUnavailable:
      ": a limit on threads; raise RLIMIT_NPROC (ulimit -u) or pids.max of the cgroup, or ask for fewer --threads"
    case _ where descriptorLimits.contains(errno):
      ": a limit on descriptors; raise RLIMIT_NOFILE (ulimit -n)"
    default: ""
    }
  }
}
