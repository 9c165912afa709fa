import Foundation
import TestSupport
import Testing

/// A file that every user may read, and its sum.
final class Sample: Sendable {
  let sum: String
  private let file: TemporaryFile

  init() throws {
    file = try TemporaryFile(bytes: arbitraryBytes(70_001))
    try #require(unsafe chmod(file.path, 0o644) == 0)
    sum = try sha256sum(file.path)
  }

  var path: String { file.path }
}

/// Returns bytes without a pattern, the same ones each time.
func arbitraryBytes(_ count: Int) -> [UInt8] {
  var state: UInt64 = 88_172_645_463_325_252
  return (0..<count).map { _ in
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return UInt8(truncatingIfNeeded: state)
  }
}

/// Returns the sum that the system's own tool computes.
func sha256sum(_ path: String) throws -> String {
  let outcome = try ProcessOutcome(of: URL(fileURLWithPath: "/usr/bin/env"), ["sha256sum", path])
  return String(outcome.output.prefix(64))
}
