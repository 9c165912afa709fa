import Glibc

/// Returns the lines of a small text file, or none if the file cannot be read. A line of more than 511 bytes is
/// returned in parts.
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

/// Returns the words after `name:` in the first line that begins with it.
package func words(of name: String, in path: String) -> [String] {
  let line = lines(path).first { $0.hasPrefix(name + ":") }
  return line?.split(whereSeparator: \.isWhitespace).dropFirst().map(String.init) ?? []
}

/// Returns the first word after `name:` as a number.
package func number(of name: String, in path: String) -> Int? { words(of: name, in: path).first.flatMap { Int($0) } }

/// Returns the names in a directory.
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

/// Returns the addresses at which the mappings of this process begin.
package func mappingStarts() -> [UInt] {
  lines("/proc/self/maps").compactMap { $0.split(separator: "-").first.flatMap { UInt($0, radix: 16) } }
}
