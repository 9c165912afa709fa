/// What a fault is about. It is the answer that differs: a fault of one kind is never answered as one of another kind.
enum FaultKind: UInt8, Hashable, Sendable {
  /// The page is not there: it is filled.
  case missing
  /// The page is there, and it was written to although it is write-protected: the protection is lifted.
  case writeProtect
  /// The page is in the page cache of a shared mapping, and the mapping does not have it yet: it is continued.
  case minor
}
