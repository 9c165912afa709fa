/// On which CPU a handler thread of the event loop runs. It matters more than anything else about a handler: waking a thread
/// on another CPU that sleeps takes ten times as long as all the rest of a fault on a virtual machine.
///
/// Handler threads stay within the CPUs that the thread which makes the runtime may use. More placements may be added.
public struct HandlerPlacement: Hashable, Sendable {
  enum Kind: Hashable {
    case automatic, withFaultingThread
    case spinning(Duration)
    case scheduler
  }

  /// Switched over inside the module, where every placement has to be thought of.
  let kind: Kind

  private init(kind: Kind) { self.kind = kind }

  /// As `withFaultingThread` from the fourth fault on, as long as a CPU is free. While every CPU is busy, in the usual class
  /// beside the faulting thread; `SCHED_IDLE` is tried again after ever more faults, and kept where it is faster.
  /// While four or more threads fault at once, it is as ``scheduler``.
  public static let automatic = HandlerPlacement(kind: .automatic)

  /// On the CPU where the faulting thread was last seen (`UFFD_FEATURE_THREAD_ID`, `/proc/self/task`), which the handler
  /// follows, under `SCHED_IDLE`: the scheduler counts a CPU with such a thread as free, so the faulting thread stays where it
  /// is when it is woken. A handler that has to wait for its CPU hands over to one in the usual class, which goes where the
  /// thread is as well, and is free to leave. Real-time threads are not followed.
  public static let withFaultingThread = HandlerPlacement(kind: .withFaultingThread)

  /// On a CPU other than the faulting thread's, looking for faults without sleeping, for up to this long after the last
  /// one. It uses that CPU up; for programs that have one to spare.
  public static func spinning(_ duration: Duration) -> HandlerPlacement { HandlerPlacement(kind: .spinning(duration)) }

  /// Wherever the scheduler puts it; also for programs that pin the thread which makes the runtime.
  public static let scheduler = HandlerPlacement(kind: .scheduler)

  /// How long a handler looks for faults without sleeping, for a placement that ``spinning(_:)`` made; nil for the others.
  public var spinningDuration: Duration? { if case .spinning(let duration) = kind { duration } else { nil } }
}

extension HandlerPlacement: CustomStringConvertible {
  /// The name of the placement, and how long it spins.
  public var description: String {
    switch kind {
    case .automatic: "automatic"
    case .withFaultingThread: "withFaultingThread"
    case .spinning(let duration): "spinning for \(duration)"
    case .scheduler: "scheduler"
    }
  }
}
