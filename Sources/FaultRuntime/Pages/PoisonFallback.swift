/// What the event loop does with a page that cannot be produced if the kernel cannot poison it (`UFFDIO_POISON`,
/// Linux 6.6).
///
/// The threads that touch the page never read zeros. Other deliveries do not need this choice: with
/// ``Delivery/sigbus`` and ``Delivery/sigsegv`` the thread that faulted gets its signal on every kernel. Later
/// versions may add more choices.
///
/// ```swift
/// let runtime = try FaultRuntime(FaultRuntimeConfiguration(poisonFallback: .keepWaiting))
/// ```
public struct PoisonFallback: RawRepresentable, Hashable, Sendable, CaseIterable {
  enum Kind: String, CaseIterable {
    case abort, keepWaiting
  }

  /// The module switches over this value, so the compiler finds every place that a new choice concerns.
  let kind: Kind

  private init(kind: Kind) { self.kind = kind }

  /// The program ends. Lines on standard error say which page failed, and why; without the reason where
  /// ``FaultRuntimeConfiguration/explainsFailures`` is false, or where the text of the error cannot be made.
  public static let abort = PoisonFallback(kind: .abort)

  /// The runtime says the same as with ``abort``, and the program goes on. The threads wait until an answer brings the
  /// page, for example to ``LazyRegion/retry(_:)``, or until the region is closed.
  public static let keepWaiting = PoisonFallback(kind: .keepWaiting)

  /// All choices that this version of the library knows.
  public static let allCases: [PoisonFallback] = Kind.allCases.map { PoisonFallback(kind: $0) }

  /// Creates the choice with the given name. The result is nil if this version of the library knows no such choice.
  public init?(rawValue: String) {
    guard let kind = Kind(rawValue: rawValue) else { return nil }
    self.init(kind: kind)
  }

  /// The name of the choice: `abort` or `keepWaiting`.
  public var rawValue: String { kind.rawValue }

  // The standard library would compare and hash the raw value of a raw-representable type, so both functions are
  // written out.

  /// Returns whether both values are the same choice.
  public static func == (left: PoisonFallback, right: PoisonFallback) -> Bool { left.kind == right.kind }

  /// Hashes the choice.
  public func hash(into hasher: inout Hasher) { hasher.combine(kind) }
}

extension PoisonFallback: CustomStringConvertible {
  /// The name of the choice, the same as ``rawValue``.
  public var description: String { rawValue }
}
