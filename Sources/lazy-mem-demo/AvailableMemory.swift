import FoundationEssentials

/// How much memory this process can still fill.
enum AvailableMemory {
  /// Bytes; nil where the system does not say. The smaller of what the machine has and what the cgroup allows.
  static func byteCount() -> Int? {
    [machine(), cgroup()].compactMap { $0 }.min()
  }

  private static func machine() -> Int? {
    guard let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8) else { return nil }
    for line in text.split(separator: "\n") where line.hasPrefix("MemAvailable:") {
      return line.split(separator: " ").dropFirst().first.flatMap { Int($0) }.map { $0 * 1024 }
    }
    return nil
  }

  /// The limit of the cgroup that a container sees as its own (version 2), less what it uses.
  private static func cgroup() -> Int? {
    func number(_ name: String) -> Int? {
      guard let text = try? String(contentsOfFile: "/sys/fs/cgroup/\(name)", encoding: .utf8) else { return nil }
      return Int(text.trimmingPrefix(" ").prefix { $0.isNumber })
    }
    guard let limit = number("memory.max") else { return nil }
    return max(0, limit - (number("memory.current") ?? 0))
  }
}
