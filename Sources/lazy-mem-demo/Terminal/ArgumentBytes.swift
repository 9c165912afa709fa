import ArgumentParser
import Glibc

/// Arguments of any bytes as strings. The name of a file on Linux need not be UTF-8, and a `String` cannot hold one
/// that is not. Such bytes become scalars that no name has in practice, the last 128 of Unicode. In the name that
/// does have them their own bytes are replaced in turn, so that nothing is lost.
enum ArgumentBytes {
  private static let first: UInt32 = 0x10_ff80

  /// The byte that a scalar stands for; nil if the scalar stands for itself.
  static func byte(for scalar: Unicode.Scalar) -> UInt8? {
    scalar.value >= first ? UInt8(scalar.value - first + 0x80) : nil
  }

  static func text(of bytes: some Collection<UInt8>) -> String {
    var result = String.UnicodeScalarView()
    var rest = bytes[...]
    var input = bytes.makeIterator()
    var parser = Unicode.UTF8.ForwardParser()
    func replace(_ bytes: some Collection<UInt8>) {
      for byte in bytes { result.append(Unicode.Scalar(first + UInt32(byte) - 0x80) ?? "?") }
    }
    while true {
      switch parser.parseScalar(from: &input) {
      case .emptyInput:
        return String(result)
      case .error(let length):
        replace(rest.prefix(length))
        rest = rest.dropFirst(length)
      case .valid(let encoded):
        let scalar = Unicode.UTF8.decode(encoded)
        if byte(for: scalar) == nil { result.append(scalar) } else { replace(rest.prefix(encoded.count)) }
        rest = rest.dropFirst(encoded.count)
      }
    }
  }

  static func bytes(of text: String) -> [UInt8] {
    text.unicodeScalars.flatMap { scalar in byte(for: scalar).map { [$0] } ?? Array(String(scalar).utf8) }
  }

  /// The arguments of this process, without its name.
  static var ofThisProcess: [String] {
    (0..<Int(CommandLine.argc)).dropFirst().compactMap { index in
      unsafe CommandLine.unsafeArgv[index].map { unsafe FileName(cString: $0).text }
    }
  }
}

/// The name of a file, as the kernel knows it.
struct FileName: ExpressibleByArgument {
  var bytes: [UInt8]

  init(bytes: [UInt8]) { self.bytes = bytes }

  init?(argument: String) { bytes = ArgumentBytes.bytes(of: argument) }

  init(cString: UnsafePointer<CChar>) {
    bytes = unsafe UnsafeBufferPointer(start: cString, count: strlen(cString)).map { UInt8(bitPattern: $0) }
  }

  /// The name for messages. Names are made visible where they are printed.
  var text: String { ArgumentBytes.text(of: bytes) }

  /// Calls `body` with the name as C takes it.
  func withCString<Result>(_ body: (UnsafePointer<CChar>) -> Result) -> Result {
    let name = bytes.map { CChar(bitPattern: $0) } + [0]
    return unsafe name.withUnsafeBufferPointer { unsafe body($0.baseAddress!) }
  }
}
