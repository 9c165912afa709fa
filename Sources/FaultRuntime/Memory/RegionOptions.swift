/// How a region is mapped.
public struct RegionOptions: Hashable, Sendable {
  /// What user code may do with the memory.
  public enum Access: Hashable, Sendable {
    /// Reads and writes. What is written stays in this region; providers never see it.
    case readWrite
    /// Reads only: a write is SIGSEGV.
    case readOnly
  }

  /// A name for error messages; one is made up where it is nil.
  public var name: String?

  /// What user code may do with the memory.
  public var access: Access

  /// Options with the usual values: a made-up name, memory that can be read and written.
  public init(name: String? = nil, access: Access = .readWrite) {
    self.name = name
    self.access = access
  }
}
