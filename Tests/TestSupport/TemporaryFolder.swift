import Glibc
import Testing

/// A folder in the temporary directory. `deinit` deletes it and the files in it.
package final class TemporaryFolder: Sendable {
  package let path: String

  package init() throws {
    var template = Array("/tmp/fault-runtime-XXXXXX".utf8CString)
    try #require(unsafe mkdtemp(&template) != nil)
    path = unsafe template.withUnsafeBufferPointer { unsafe String(cString: $0.baseAddress!) }
  }

  deinit {
    for name in directory(path) { unsafe unlink("\(path)/\(name)") }
    unsafe rmdir(path)
  }
}
