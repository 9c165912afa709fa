/// A mapping of this process, as `/proc/self/smaps` describes it.
package struct Mapping {
  package let range: Range<UInt>
  /// The first line, which ends with the name of a file or of memory that has one.
  package let line: String
  /// What the kernel counts, by its name, such as `Rss`.
  package private(set) var byteCounts: [String: Int] = [:]
  /// The flags of two letters, such as `lo` for locked memory.
  package private(set) var flags: Set<String> = []

  /// Makes a mapping of its first line; nil for other lines.
  private init?(_ line: String) {
    let bounds = line.prefix { $0 != " " }.split(separator: "-").compactMap { UInt($0, radix: 16) }
    guard bounds.count == 2 else { return nil }
    range = bounds[0]..<bounds[1]
    self.line = line
  }

  /// All mappings, in the order of their addresses.
  package static var all: [Mapping] {
    var found: [Mapping] = []
    for line in lines("/proc/self/smaps") {
      if let mapping = Mapping(line) {
        found.append(mapping)
      } else {
        found[found.count - 1].read(line)
      }
    }
    return found
  }

  private mutating func read(_ line: String) {
    let words = line.split(separator: " ").map(String.init)
    guard words.count > 1, let name = words.first, name.hasSuffix(":") else { return }
    if name == "VmFlags:" {
      flags = Set(words.dropFirst())
    } else if let amount = Int(words[1]) {
      byteCounts[String(name.dropLast())] = amount * 1024
    }
  }
}
