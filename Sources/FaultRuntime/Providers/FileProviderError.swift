/// Why a file could not be opened or read.
public struct FileProviderError: Error, Hashable, Sendable {
  /// What kind of failure it was. More may be added.
  public struct Code: Hashable, Sendable {
    fileprivate enum Kind { case cannotOpen, invalidPath, notARegularFile, cannotRead, truncated }
    fileprivate let kind: Kind

    /// `open(2)` or `fstat(2)` failed; `errno` says why.
    public static let cannotOpen = Code(kind: .cannotOpen)
    /// The path has a zero byte (NUL) in it, where the kernel would take it to end.
    public static let invalidPath = Code(kind: .invalidPath)
    /// It is a directory (`EISDIR`), a device, a pipe or a socket.
    public static let notARegularFile = Code(kind: .notARegularFile)
    /// `pread(2)` failed; `errno` says why.
    public static let cannotRead = Code(kind: .cannotRead)
    /// The file ends before `offset`: it was shortened after it was opened.
    public static let truncated = Code(kind: .truncated)
  }

  /// What kind of failure it was.
  public var code: Code
  /// The path of the file. Control characters and bytes that are not UTF-8 are shown as `\xNN`, a NUL as `\0`.
  public var path: String
  /// Where in the file, in bytes, for failures of reading.
  public var offset: Int?
  /// The kernel's reason, where there is one.
  public var errno: KernelErrno?
}

extension FileProviderError: CustomStringConvertible {
  /// One line: what failed, where, and why.
  public var description: String {
    let reason = errno.map { " (\($0): \($0.explanation))" } ?? ""
    return switch code.kind {
    case .cannotOpen: "cannot open \(path)\(reason)"
    case .invalidPath:
      "cannot open \(path): the path has a zero byte (NUL) in it, where the kernel would take it to end"
    case .notARegularFile: "\(path) is not a regular file\(reason)"
    case .cannotRead: "cannot read \(path) at offset \(offset ?? 0)\(reason)"
    case .truncated: "\(path) was truncated while it was mapped: nothing is left at offset \(offset ?? 0)"
    }
  }
}

/// Bytes as one line of text: control characters and what is not UTF-8 as `\xNN`, a NUL as `\0`, everything else as it is.
func readableText(_ bytes: some Collection<UInt8>) -> String {
  var text = ""
  var rest = bytes[...]
  var input = bytes.makeIterator()
  var parser = Unicode.UTF8.ForwardParser()
  while true {
    let byteCount: Int
    switch parser.parseScalar(from: &input) {
    case .emptyInput:
      return text
    case .error(let length):
      byteCount = length
      text += escaped(rest.prefix(length))
    case .valid(let encoded):
      byteCount = encoded.count
      let scalar = Unicode.UTF8.decode(encoded)
      if scalar.properties.generalCategory == .control {
        text += scalar.value == 0 ? "\\0" : escaped(rest.prefix(byteCount))
      } else {
        text.unicodeScalars.append(scalar)
      }
    }
    rest = rest.dropFirst(byteCount)
  }
}

private func escaped(_ bytes: some Collection<UInt8>) -> String {
  bytes.map { byte in
    let digits = String(byte, radix: 16)
    return "\\x" + (digits.count == 1 ? "0" : "") + digits
  }.joined()
}
