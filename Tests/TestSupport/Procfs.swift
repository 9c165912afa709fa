import Glibc

/// The lines of a small text file; none where it cannot be read. One that is longer than 511 bytes comes in several.
package func lines(_ path: String) -> [String] {
  guard let file = unsafe fopen(path, "r") else { return [] }
  defer { unsafe fclose(file) }
  var lines: [String] = []
  var line = [CChar](repeating: 0, count: 512)
  while unsafe fgets(&line, CInt(line.count), file) != nil {
    let text = unsafe line.withUnsafeBufferPointer { unsafe String(cString: $0.baseAddress!) }
    lines.append(text.hasSuffix("\n") ? String(text.dropLast()) : text)
  }
  return lines
}

/// The words behind `name:` in the first line that begins so.
package func words(of name: String, in path: String) -> [String] {
  let line = lines(path).first { $0.hasPrefix(name + ":") }
  return line?.split(whereSeparator: \.isWhitespace).dropFirst().map(String.init) ?? []
}

/// The number behind `name:`, as it stands there.
package func number(of name: String, in path: String) -> Int? { words(of: name, in: path).first.flatMap { Int($0) } }

/// The names in a directory.
package func directory(_ path: String) -> [String] {
  guard let directory = unsafe opendir(path) else { return [] }
  defer { unsafe closedir(directory) }
  var names: [String] = []
  while let entry = unsafe readdir(directory) {
    let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
      unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
    }
    names.append(name)
  }
  return names
}

/// The names of a process's threads that belong to a runtime.
package func runtimeThreads(of process: String = "self") -> [String] {
  let tasks = "/proc/\(process)/task"
  return directory(tasks).flatMap { lines("\(tasks)/\($0)/comm") }.filter { $0.hasPrefix("fault-") }
}
