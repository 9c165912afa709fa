import FoundationEssentials

/// How much memory this process can still fill.
enum AvailableMemory {
  /// Returns the smaller of the memory that the machine has available and the memory that the cgroup still allows, in
  /// bytes. Returns nil if the system reports neither.
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

  /// Returns the limit of the cgroup that a container sees as its own (version 2), minus what the cgroup already
  /// uses.
  private static func cgroup() -> Int? {
    func number(_ name: String) -> Int? {
      guard let text = try? String(contentsOfFile: "/sys/fs/cgroup/\(name)", encoding: .utf8) else { return nil }
      return Int(text.trimmingPrefix(" ").prefix { $0.isNumber })
    }
    guard let limit = number("memory.max") else { return nil }
    return max(0, limit - (number("memory.current") ?? 0))
  }
}
