import Glibc
import Testing

/// How a program has ended.
enum Ending: Equatable {
  case exit(CInt)
  case signal(CInt)
}

/// Runs a program of this package, which lies beside the tests, for at most a minute.
func run(_ name: String, _ arguments: [String]) throws -> Ending {
  var place = [CChar](repeating: 0, count: 4096)
  try #require(readlink("/proc/self/exe", &place, place.count - 1) > 0)
  let own = place.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  let program = own.split(separator: "/").dropLast().map { "/\($0)" }.joined() + "/" + name
  var words = ([program] + arguments).map { strdup($0) } + [nil]
  defer { for word in words { free(word) } }
  var child: pid_t = 0
  try #require(posix_spawn(&child, program, nil, nil, &words, environ) == 0)
  var status: CInt = 0
  let end = ContinuousClock.now + .seconds(60)
  while waitpid(child, &status, WNOHANG) != child {
    if ContinuousClock.now > end { kill(child, SIGKILL) }
    sched_yield()
  }
  let signal = status & 0x7f
  return signal == 0 ? .exit(status >> 8 & 0xff) : .signal(signal)
}
