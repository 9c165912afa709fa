/// A page that threads wait for because of faults of one kind.
struct PendingFault: Hashable, Sendable {
  /// The start of the page.
  var page: UInt
  /// Whether any of the accesses was a write.
  var isWrite: Bool
  /// What the fault is about.
  var kind = FaultKind.missing
  /// The thread of the runtime that made the fault, as the kernel numbers it; 0 if only threads of the program did.
  var asker: UInt32 = 0
  /// When the resolution was put off for the first time, in monotonic nanoseconds; 0 if it was not put off.
  var deferredSince: UInt64 = 0
  /// Whether the failure has been reported, so that the page only has to be poisoned.
  var hasFailed = false
}

extension PendingFault {
  mutating func merge(_ other: PendingFault) {
    isWrite = isWrite || other.isWrite
    hasFailed = hasFailed || other.hasFailed
    if asker == 0 { asker = other.asker }
    if deferredSince == 0 || (other.deferredSince != 0 && other.deferredSince < deferredSince) {
      deferredSince = other.deferredSince
    }
  }
}

extension PendingFault {
  /// Returns whether one request answers both faults.
  @inline(__always)
  func isSameFault(as other: PendingFault) -> Bool { page == other.page && kind == other.kind }

  /// Returns whether this fault comes after `other` in a batch. A batch is in the order of pages, and the faults of
  /// one page are in the order of kinds.
  @inline(__always)
  func comesAfter(_ other: PendingFault) -> Bool {
    page > other.page || (page == other.page && kind.rawValue > other.kind.rawValue)
  }
}
