internal import CUFFD

/// Finds out where a faulting thread runs, and moves the calling handler thread. One handler thread at a time uses
/// it.
struct ThreadLocator: ~Copyable {
  /// The CPUs that handler threads may use.
  private let allowed: CPUSet
  private var thread: UInt32 = 0
  private var status: CInt = -1
  /// What the file was when it was opened. The program may close the descriptor, and another file may get its number.
  private var facts = cuffd_file_facts()
  private var place = Place.anywhere
  private var delayBefore: Int64 = 0
  private var runBefore: Int64 = 0

  private enum Place: Hashable {
    case anywhere
    case on(Int)
    case off(Int)
  }

  init(allowed: CPUSet) { self.allowed = allowed }

  deinit { closeStatus() }

  /// Moves the caller to the CPU of `thread` and confines it there. Returns true where that is another place than
  /// before.
  mutating func join(_ thread: UInt32) -> Bool {
    guard let cpu = cpu(of: thread), allowed.contains(cpu), place != .on(cpu) else { return false }
    if CPUSet(only: cpu).confineCaller() { place = .on(cpu) }
    return true
  }

  /// Moves the caller to the CPU of `thread`, and leaves it free to move on. If the caller were confined to a CPU
  /// that another thread takes, it would have to wait, and would find that out only when it runs again. Returns true
  /// where `thread` has moved since the last call.
  mutating func visit(_ thread: UInt32) -> Bool {
    guard let cpu = cpu(of: thread), allowed.contains(cpu) else { return false }
    if Int(cuffd_current_cpu()) != cpu, CPUSet(only: cpu).confineCaller() { _ = allowed.confineCaller() }
    defer { place = .on(cpu) }
    return place != .on(cpu)
  }

  /// Keeps the caller off the CPU of `thread`. Returns true where the caller could have been on that CPU.
  mutating func avoid(_ thread: UInt32) -> Bool {
    guard let cpu = cpu(of: thread), allowed.contains(cpu), place != .off(cpu) else { return false }
    if allowed.without(cpu).confineCaller() { place = .off(cpu) }
    return true
  }

  /// Returns for how many nanoseconds since the last call the caller has waited for a CPU, without the time in which
  /// `thread` ran. A handler that has just woken a thread on its own CPU waits for that thread, which does no harm.
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

  /// Begins to count anew, because another handler thread serves from now on.
  mutating func forget() {
    place = .anywhere
    delayBefore = 0
  }

  private mutating func cpu(of thread: UInt32) -> Int? {
    if thread != self.thread || status < 0 {
      closeStatus()
      self.thread = thread
      delayBefore = 0
      status = unsafe cuffd_open_thread_status(thread, &facts)
    }
    guard status >= 0 else { return nil }
    let cpu = cuffd_last_cpu(status)
    if cpu >= 0 { return Int(cpu) }
    if KernelErrno(returned: cpu) == .resourceBusy { return nil }
    // The thread has ended, and the kernel may give its number to another thread; or the program has taken the
    // descriptor away.
    closeStatus()
    status = -1
    return nil
  }

  /// Closes the descriptor, unless the program has put another file in its place.
  private func closeStatus() {
    guard status >= 0 else { return }
    unsafe withUnsafePointer(to: facts) { unsafe cuffd_file_close_same(status, $0) }
  }
}
