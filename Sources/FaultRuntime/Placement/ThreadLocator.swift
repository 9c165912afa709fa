internal import CUFFD

/// Where a faulting thread runs, and the calling handler thread's own place. Used by one handler thread at a time.
struct ThreadLocator: ~Copyable {
  /// The CPUs that handler threads may use.
  private let allowed: CPUSet
  private var thread: UInt32 = 0
  private var status: CInt = -1
  private var place = Place.anywhere
  private var delayBefore: Int64 = 0
  private var runBefore: Int64 = 0

  private enum Place: Hashable {
    case anywhere
    case on(Int)
    case off(Int)
  }

  init(allowed: CPUSet) { self.allowed = allowed }

  deinit {
    if status >= 0 { _ = cuffd_close(status) }
  }

  /// Goes to the CPU of `thread`, and stays there. True where that is not where the caller was.
  mutating func join(_ thread: UInt32) -> Bool {
    guard let cpu = cpu(of: thread), allowed.contains(cpu), place != .on(cpu) else { return false }
    if CPUSet(only: cpu).confineCaller() { place = .on(cpu) }
    return true
  }

  /// Goes to the CPU of `thread`, and is free to leave it: who is confined to a CPU that somebody else takes waits, and finds
  /// that out only when he runs again. True where the thread has moved since the last time.
  mutating func visit(_ thread: UInt32) -> Bool {
    guard let cpu = cpu(of: thread), allowed.contains(cpu) else { return false }
    if Int(cuffd_current_cpu()) != cpu, CPUSet(only: cpu).confineCaller() { _ = allowed.confineCaller() }
    defer { place = .on(cpu) }
    return place != .on(cpu)
  }

  /// Keeps off the CPU of `thread`. True where the caller could have been there.
  mutating func avoid(_ thread: UInt32) -> Bool {
    guard let cpu = cpu(of: thread), allowed.contains(cpu), place != .off(cpu) else { return false }
    if allowed.without(cpu).confineCaller() { place = .off(cpu) }
    return true
  }

  /// Nanoseconds since the last call in which the caller waited for a CPU, without those in which `thread` ran: a handler
  /// that has just woken a thread on its own CPU waits for it, and that harms nobody.
  mutating func starvedNanoseconds(for thread: UInt32) -> Int64 {
    let delay = cuffd_run_delay_nanoseconds()
    let run = cuffd_thread_run_nanoseconds(thread)
    defer {
      delayBefore = delay
      runBefore = run
    }
    guard thread == self.thread, delayBefore > 0, delay >= 0, run >= 0 else { return 0 }
    return (delay - delayBefore) - max(0, run - runBefore)
  }

  /// Begins to count anew, on another handler thread.
  mutating func forget() {
    place = .anywhere
    delayBefore = 0
  }

  private mutating func cpu(of thread: UInt32) -> Int? {
    if thread != self.thread || status < 0 {
      if status >= 0 { _ = cuffd_close(status) }
      self.thread = thread
      delayBefore = 0
      status = cuffd_open_thread_status(thread)
    }
    guard status >= 0 else { return nil }
    let cpu = cuffd_last_cpu(status)
    if cpu >= 0 { return Int(cpu) }
    if KernelErrno(returned: cpu) == .resourceBusy { return nil }
    // It has ended. Its number may be given to another.
    _ = cuffd_close(status)
    status = -1
    return nil
  }
}
