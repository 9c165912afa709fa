import Glibc

/// The signals by which a user ends a run before its time. They are taken one by one instead of by a handler, so that
/// the run can end as usual and print what it has counted.
struct StopSignals {
  private var numbers = sigset_t()

  /// Blocks the signals in this thread, and in those that it starts from now on. Signals that the program was started
  /// to ignore, as `nohup` does, stay ignored.
  init() {
    unsafe sigemptyset(&numbers)
    for number in [SIGINT, SIGTERM, SIGHUP] where !Self.isIgnored(number) { unsafe sigaddset(&numbers, number) }
    unsafe pthread_sigmask(SIG_BLOCK, &numbers, nil)
  }

  /// Waits for one of the signals, and returns it, or nil when the time is over.
  func wait(milliseconds: Int) -> CInt? {
    var numbers = numbers
    var time = timespec(tv_sec: milliseconds / 1000, tv_nsec: milliseconds % 1000 * 1_000_000)
    let number = unsafe sigtimedwait(&numbers, nil, &time)
    return number > 0 ? number : nil
  }

  /// Gives the signals their usual effect, so that a second one ends the program at once.
  func release() {
    // timeout(1) signals the program and then its process group, which is one wish.
    _ = wait(milliseconds: 50)
    var numbers = numbers
    unsafe pthread_sigmask(SIG_UNBLOCK, &numbers, nil)
  }

  static func name(_ number: CInt) -> String {
    switch number {
    case SIGINT: "SIGINT"
    case SIGTERM: "SIGTERM"
    case SIGHUP: "SIGHUP"
    default: "signal \(number)"
    }
  }

  /// Ends the program by a signal, so that a shell knows why it ended.
  static func end(by number: CInt) -> Never {
    signal(number, SIG_DFL)
    kill(getpid(), number)
    // Not reached, unless the signal is blocked.
    _exit(128 + number)
  }

  private static func isIgnored(_ number: CInt) -> Bool {
    var action = sigaction()
    guard unsafe sigaction(number, nil, &action) == 0 else { return false }
    return unsafe unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == 1
  }
}
