import CFaultReference
import FoundationEssentials
import Glibc

/// A description of the machine, so that a reader can judge the numbers.
struct BenchMachine: Encodable {
  var processor: String
  var architecture: String
  /// Whether the processor reports a hypervisor.
  var isVirtual: Bool
  /// The number of CPUs of the machine that are online.
  var cpus: Int
  /// The numbers of the CPUs that this process may use.
  var allowedCPUs: [Int]
  var kernel: String
  var pageSize: Int
  /// The time of one call of the clock, which is part of every touch.
  var clockNanoseconds: UInt64
  /// The load averages of 1, 5 and 15 minutes, the numbers of running and existing threads, and the last process ID.
  var loadBefore: String

  init(allowedCPUs: [Int]) {
    let lines = contents(of: "/proc/cpuinfo").split(separator: "\n")
    func value(of key: String) -> String? {
      lines.first { $0.hasPrefix(key) }?.split(separator: ":", maxSplits: 1).last.map { String($0.drop { $0 == " " }) }
    }
    var name = utsname()
    unsafe uname(&name)
    architecture = Self.text(of: &name.machine)
    kernel = Self.text(of: &name.release)
    processor = value(of: "model name") ?? "unknown"
    isVirtual = value(of: "flags")?.split(separator: " ").contains("hypervisor") ?? false
    cpus = sysconf(Int32(_SC_NPROCESSORS_ONLN))
    self.allowedCPUs = allowedCPUs
    pageSize = sysconf(Int32(_SC_PAGESIZE))
    clockNanoseconds = creference_clock_nanoseconds()
    loadBefore = contents(of: "/proc/loadavg").split(separator: "\n").first.map(String.init) ?? "unknown"
  }

  /// The description as pairs of a label and a text.
  var rows: [(String, String)] {
    let allowed = allowedCPUs.map(String.init).joined(separator: " ")
    return [
      ("processor", "\(processor), \(architecture)" + (isVirtual ? ", a virtual machine" : "")),
      ("CPUs", "\(cpus) online; this process may use \(allowed)"),
      ("kernel", "Linux \(kernel)"),
      ("page size", "\(pageSize) bytes"),
      ("clock", "\(clockNanoseconds) ns for a look, which is in every touch"),
      ("load before", loadBefore),
    ]
  }

  private static func text<Field>(of field: inout Field) -> String {
    unsafe withUnsafeBytes(of: &field) { bytes in
      unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
  }
}

/// How much CPU time was used, in seconds since some time in the past.
struct CPUUse {
  /// The user and system time of all programs.
  private var everybody = 0.0
  /// The time that the host of a virtual machine gave to other machines.
  private var stolen = 0.0
  private var total = 0.0
  private var own = 0.0

  static func now() -> CPUUse {
    var use = CPUUse()
    // The order of the fields: user, nice, system, idle, iowait, irq, softirq, steal.
    let line = contents(of: "/proc/stat").split(separator: "\n").first ?? ""
    let ticks = line.split(separator: " ").dropFirst().prefix(8).compactMap { Double($0) }
    let second = Double(sysconf(Int32(_SC_CLK_TCK)))
    if ticks.count == 8 {
      use.everybody = (ticks[0] + ticks[1] + ticks[2]) / second
      use.stolen = ticks[7] / second
      use.total = ticks.reduce(0, +) / second
    }
    var usage = rusage()
    unsafe getrusage(RUSAGE_SELF.rawValue, &usage)
    for time in [usage.ru_utime, usage.ru_stime] { use.own += Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
    return use
  }

  /// Returns which parts of all CPU time since `start` other programs and the host took. Returns 0 for both if too
  /// little time has passed for an answer.
  func since(_ start: CPUUse) -> (others: Double, host: Double) {
    let passed = total - start.total
    guard passed > 0.5 else { return (0, 0) }
    let others = (everybody - start.everybody) - (own - start.own)
    return (max(0, others) / passed, max(0, stolen - start.stolen) / passed)
  }
}

/// Returns the whole content of a small file, or an empty string if the file cannot be read.
func contents(of path: String) -> String {
  (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
}
