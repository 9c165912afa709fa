/// What to do with a page that cannot be produced where the kernel cannot poison it (`UFFDIO_POISON` needs Linux 6.6). Zeros
/// are never an answer. More choices may be added.
public struct PoisonFallback: RawRepresentable, Hashable, Sendable, CaseIterable {
  enum Kind: String, CaseIterable {
    case abort, keepWaiting
  }

  /// Switched over inside the module, where every choice has to be thought of.
  let kind: Kind

  private init(kind: Kind) { self.kind = kind }

  /// The program ends, with a line on standard error that says which page and why.
  public static let abort = PoisonFallback(kind: .abort)

  /// A line on standard error, and the threads wait until ``LazyRegion/retry(_:)`` brings the page, or the region is closed.
  public static let keepWaiting = PoisonFallback(kind: .keepWaiting)

  /// All choices that this version of the library knows.
  public static let allCases: [PoisonFallback] = Kind.allCases.map { PoisonFallback(kind: $0) }

  /// The choice with this name; nil where this version of the library knows none.
  public init?(rawValue: String) {
    guard let kind = Kind(rawValue: rawValue) else { return nil }
    self.init(kind: kind)
  }

  /// Its name: `abort` or `keepWaiting`.
  public var rawValue: String { kind.rawValue }

  // Written out, because for a type with a raw value the standard library would compare and hash that.

  /// Whether both are the same choice.
  public static func == (left: PoisonFallback, right: PoisonFallback) -> Bool { left.kind == right.kind }

  /// Hashes the choice.
  public func hash(into hasher: inout Hasher) { hasher.combine(kind) }
}

extension PoisonFallback: CustomStringConvertible {
  /// The name, as ``rawValue`` has it.
  public var description: String { rawValue }
}
