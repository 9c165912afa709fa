/// The first two numbers of a kernel's version, which decide the features that the kernel has.
struct KernelVersion: Hashable, Comparable, Sendable {
  var major: Int
  var minor: Int

  init(_ major: Int, _ minor: Int) {
    self.major = major
    self.minor = minor
  }

  /// Reads a release as `uname(2)` tells it, such as `6.18.44-generic`. Nil where it does not begin with two numbers.
  init?(release: String) {
    let parts = release.split(separator: ".", maxSplits: 2, omittingEmptySubsequences: false)
    guard parts.count >= 2, let major = Int(parts[0]), let minor = Int(parts[1].prefix { $0.isNumber }),
      major >= 0, minor >= 0
    else { return nil }
    self.init(major, minor)
  }

  static func < (left: Self, right: Self) -> Bool { (left.major, left.minor) < (right.major, right.minor) }
}

extension KernelVersion: CustomStringConvertible {
  var description: String { "\(major).\(minor)" }
}
