import Glibc
import Testing

/// A file in the temporary directory. `deinit` deletes it.
package final class TemporaryFile: Sendable {
  package let path: String

  package init(bytes: [UInt8] = []) throws {
    var template = Array("/tmp/fault-runtime-XXXXXX".utf8CString)
    let descriptor = unsafe mkstemp(&template)
    try #require(descriptor >= 0)
    defer { close(descriptor) }
    path = unsafe template.withUnsafeBufferPointer { unsafe String(cString: $0.baseAddress!) }
    var written = 0
    while written < bytes.count {
      let result = unsafe bytes.withUnsafeBytes {
        unsafe Glibc.write(descriptor, $0.baseAddress! + written, $0.count - written)
      }
      try #require(result > 0)
      written += result
    }
  }

  package convenience init(_ text: String) throws { try self.init(bytes: Array(text.utf8)) }

  deinit { unsafe unlink(path) }

  /// Returns the current content of the file.
  package func text() throws -> String {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    try #require(descriptor >= 0)
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = unsafe Glibc.read(descriptor, &part, part.count)
      try #require(count >= 0)
      guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
      bytes += part[..<count]
    }
  }
}
