/// On which CPU a handler thread of the event loop runs. This matters more than anything else about a handler: on a
/// virtual machine, waking a thread that sleeps on another CPU takes ten times as long as all the rest of a fault.
///
/// ```swift
/// let spinning = HandlerPlacement.spinning(.microseconds(50))
/// let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop, placement: spinning))
/// ```
///
/// Handler threads stay within the CPUs that the thread which makes the runtime may use. Where this is a single CPU,
/// or the kernel does not tell which thread faulted (`UFFD_FEATURE_THREAD_ID`, Linux 4.14), every placement is the
/// same as ``scheduler``, except that a handler still spins where ``spinning(_:)`` says so. More placements may be
/// added.
public struct HandlerPlacement: Hashable, Sendable {
  enum Kind: Hashable {
    case automatic, withFaultingThread
    case spinning(Duration)
    case scheduler
  }

  /// The library switches over this enumeration, so that the compiler finds every place where a new placement has to
  /// be handled.
  let kind: Kind

  private init(kind: Kind) { self.kind = kind }

  /// Follows the faulting thread as ``withFaultingThread`` does, from the fourth fault on, as long as a CPU is free.
  ///
  /// While every CPU is busy, the handler runs in the usual scheduling class, near the faulting thread. It tries
  /// `SCHED_IDLE` again after ever more faults, and stays there where that is faster. While four or more threads
  /// fault at once, the placement is the same as ``scheduler``.
  public static let automatic = HandlerPlacement(kind: .automatic)

  /// Runs the handler on the CPU where the faulting thread was last seen, under `SCHED_IDLE`, and follows that thread
  /// (`UFFD_FEATURE_THREAD_ID`, `/proc/self/task`).
  ///
  /// The scheduler counts a CPU with such a handler as free, so the faulting thread stays on it when the handler
  /// wakes it. A handler that has to wait for its CPU hands over to its second thread. That one is in the usual
  /// scheduling class: it goes to the faulting thread's CPU, too, but is free to leave it. Real-time threads are not
  /// followed.
  public static let withFaultingThread = HandlerPlacement(kind: .withFaultingThread)

  /// Runs the handler on a CPU other than the faulting thread's, where it looks for faults without sleeping. The
  /// handler uses up that CPU, so this is for programs that have one to spare.
  ///
  /// - Parameter duration: how long the handler looks for faults after the last one before it sleeps. A negative
  ///   duration counts as zero.
  public static func spinning(_ duration: Duration) -> HandlerPlacement { HandlerPlacement(kind: .spinning(duration)) }

  /// Lets the scheduler choose the CPU. This is also the placement for a program that pins the thread which makes the
  /// runtime.
  public static let scheduler = HandlerPlacement(kind: .scheduler)

  /// How long a handler looks for faults without sleeping, for a placement that ``spinning(_:)`` made; nil for all
  /// others.
  public var spinningDuration: Duration? { if case .spinning(let duration) = kind { duration } else { nil } }
}

extension HandlerPlacement: CustomStringConvertible {
  /// The name of the placement, and for ``spinning(_:)`` how long the handler spins.
  public var description: String {
    switch kind {
    case .automatic: "automatic"
    case .withFaultingThread: "withFaultingThread"
    case .spinning(let duration): "spinning for \(duration)"
    case .scheduler: "scheduler"
    }
  }
}
