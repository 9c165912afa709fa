/// How a region is mapped.
public struct RegionOptions: Hashable, Sendable {
  /// What user code may do with the memory.
  public enum Access: Hashable, Sendable {
    /// Reads and writes. What is written stays in this region; providers never see it.
    case readWrite
    /// Reads only: a write is SIGSEGV.
    case readOnly
  }

  /// How the memory is going to be accessed, as in `madvise(2)`.
  public enum Advice: Hashable, Sendable, CaseIterable {
    /// Found out: requests grow while accesses run on, up to the provider's largest, and are as small as the provider
    /// permits where they do not.
    case normal
    /// Here and there: each fault brings the provider's preferred size and no more.
    case random
    /// From start to end: each fault brings the provider's largest size.
    case sequential
  }

  /// A name for error messages; one is made up where it is nil.
  public var name: String?

  /// What user code may do with the memory.
  public var access: Access

  /// How the memory is going to be accessed.
  public var advice: Advice

  /// Options with the usual values: a made-up name, memory that can be read and written, requests that adapt.
  public init(name: String? = nil, access: Access = .readWrite, advice: Advice = .normal) {
    self.name = name
    self.access = access
    self.advice = advice
  }
}
