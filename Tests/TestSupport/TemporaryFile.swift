import Glibc
import Testing

/// A file in the temporary directory, gone with the object.
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

  /// What is in it now.
  package func text() -> String { lines(path).map { $0 + "\n" }.joined() }
}
