/// A thread that belongs to a runtime, as the kernel describes it at a moment.
package struct RuntimeThread: Sendable, CustomStringConvertible {
  package let name: String
  /// The CPUs that it may run on, in the kernel's notation.
  package let cpus: String
  /// The policy as in sched_setscheduler(2).
  package let policy: Int
  package let isAsleep: Bool
  /// The blocked signals, each as a bit.
  private let blocked: UInt64

  /// Returns nil for a thread that has ended.
  fileprivate init?(task: String) {
    // The name may contain spaces. The fields after it begin with field 3, the state.
    let fields = lines("\(task)/stat").first?.split(separator: ")").last?.split(separator: " ") ?? []
    guard let name = lines("\(task)/comm").first, fields.count > 38,
      let cpus = words(of: "Cpus_allowed_list", in: "\(task)/status").first,
      let blocked = words(of: "SigBlk", in: "\(task)/status").first
    else { return nil }
    self.name = name
    self.cpus = cpus
    policy = Int(fields[38]) ?? -1
    isAsleep = fields[0] == "S"
    self.blocked = UInt64(blocked, radix: 16) ?? 0
  }

  package var description: String { name }

  package func blocks(_ signal: CInt) -> Bool { blocked & (1 << UInt64(signal - 1)) != 0 }
}

/// Returns the threads of a process that belong to a runtime and whose names begin with `prefix`.
package func runtimeThreads(named prefix: String = "fault-", of process: String = "self") -> [RuntimeThread] {
  let tasks = "/proc/\(process)/task"
  return directory(tasks).filter { lines("\(tasks)/\($0)/comm").first?.hasPrefix(prefix) == true }.compactMap {
    RuntimeThread(task: "\(tasks)/\($0)")
  }
}
