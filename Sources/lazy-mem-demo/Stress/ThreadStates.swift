import Glibc

/// What the kernel reports of the threads of this process: where each one sleeps, and which scheduling class it has.
enum ThreadStates {
  static var text: String {
    let numbers = directory("/proc/self/task").compactMap { Int($0) }.sorted()
    return numbers.map { number in
      let place = "/proc/self/task/\(number)/"
      let name = file(place + "comm")
      // The fields after the name, which may contain any character. The state is field 3, and the class is field 41.
      let fields = file(place + "stat").split(separator: ")").last?.split(separator: " ") ?? []
      let state = fields.first ?? "?"
      let policy = fields.count > 38 ? fields[38] : "?"
      return "\(number) \(name): state \(state), class \(policy), in \(file(place + "wchan")), "
        + "ran and waited \(file(place + "schedstat")), call \(file(place + "syscall"))\n"
    }.joined()
  }

  private static func directory(_ path: String) -> [String] {
    guard let directory = unsafe opendir(path) else { return [] }
    defer { unsafe closedir(directory) }
    var names: [String] = []
    while let entry = unsafe readdir(directory) {
      unsafe withUnsafePointer(to: &entry.pointee.d_name) { name in
        unsafe name.withMemoryRebound(to: CChar.self, capacity: 256) { names.append(unsafe String(cString: $0)) }
      }
    }
    return names
  }

  private static func file(_ path: String) -> String {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "?" }
    defer { close(descriptor) }
    let bytes = unsafe [UInt8](unsafeUninitializedCapacity: 1024) { buffer, count in
      count = unsafe max(0, read(descriptor, buffer.baseAddress, buffer.count))
    }
    return String(decoding: bytes.filter { $0 != 10 }, as: UTF8.self)
  }
}
