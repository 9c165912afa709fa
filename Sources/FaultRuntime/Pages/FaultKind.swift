/// What a fault is about. Each kind needs its own answer, so a fault of one kind is never answered like a fault of
/// another.
enum FaultKind: UInt8, Hashable, Sendable {
  /// The page is missing. The answer fills it.
  case missing
  /// A thread wrote to a resident page that is write-protected. The answer lifts the protection.
  case writeProtect
  /// The page cache of a shared mapping has the page, but the mapping does not (a minor fault). `UFFDIO_CONTINUE`
  /// answers it.
  case minor
}
