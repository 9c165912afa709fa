import CBenchmarkSupport
import FaultRuntime
import FoundationEssentials
import Glibc

/// A description of the machine, so that a reader can judge the numbers.
struct Machine: Encodable {
  /// How busy the machine is, as the kernel reports it.
  struct Load: Encodable {
    /// The load averages of 1, 5 and 15 minutes, the numbers of running and existing threads, and the last process
    /// ID.
    var average = firstLine(of: "/proc/loadavg")

    var text: String { "load \(average)" }
  }

  var kernel: String
  var architecture: String
  var processor: String
  var allowedCPUs: [Int]
  /// The kernel's driver for idle CPUs. Without one, "none", they only halt, and no request to PM QoS changes that.
  var idleDriver = Self.idleDriver
  var loadBefore = Load()

  init() throws {
    var allowed = [Int32](repeating: 0, count: 1024)
    let count = unsafe allowed.withUnsafeMutableBufferPointer { buffer in
      unsafe support_allowed_cpus(buffer.baseAddress!, Int32(buffer.count))
    }
    guard count > 0 else { throw BenchmarkError("cannot ask for the allowed CPUs (\(KernelErrno(rawValue: -count)))") }
    allowedCPUs = allowed.prefix(Int(count)).map(Int.init)

    var name = utsname()
    unsafe uname(&name)
    kernel = Self.text(of: &name.release)
    architecture = Self.text(of: &name.machine)
    processor = Self.processorName()
  }

  var text: String {
    let cpus = allowedCPUs.map(String.init).joined(separator: " ")
    return """
      kernel     \(kernel) \(architecture)
      processor  \(processor)
      CPUs       \(cpus) allowed
      idle       \(idleDriver == "none" ? "no cpuidle driver" : idleDriver)
      before     \(loadBefore.text)
      """
  }

  static var idleDriver: String {
    let path = "/sys/devices/system/cpu/cpuidle/current_driver"
    return unsafe access(path, F_OK) == 0 ? firstLine(of: path) : "none"
  }

  private static func processorName() -> String {
    let lines = contents(of: "/proc/cpuinfo").split(separator: "\n")
    guard let line = lines.first(where: { $0.hasPrefix("model name") }), let colon = line.firstIndex(of: ":") else {
      return "unknown"
    }
    return String(line[line.index(after: colon)...].drop { $0 == " " })
  }

  private static func text<Field>(of field: inout Field) -> String {
    unsafe withUnsafeBytes(of: &field) { bytes in
      unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
  }
}

/// Properties of the host.
enum Host {
  /// The number of bytes in a page.
  static let pageSize = sysconf(Int32(_SC_PAGESIZE))
}

/// Returns the whole content of a small file, or an empty string if the file cannot be read.
func contents(of path: String) -> String {
  guard let data = try? Data(contentsOf: URL(filePath: path)) else { return "" }
  return String(decoding: data, as: UTF8.self)
}

private func firstLine(of path: String) -> String {
  contents(of: path).split(separator: "\n").first.map(String.init) ?? "unknown"
}
