/// A page that threads wait for, because of faults of one kind.
struct PendingFault: Hashable, Sendable {
  /// The start of the page.
  var page: UInt
  /// Whether any of the accesses was a write.
  var isWrite: Bool
  /// What the fault is about.
  var kind = FaultKind.missing
  /// A thread of the runtime's own that made it; 0 where only the program's did.
  var asker: UInt32 = 0
  /// When the resolution was put off for the first time, in monotonic nanoseconds; 0 where it was not.
  var deferredSince: UInt64 = 0
  /// Whether the failure was reported, and only the poisoning is left to do.
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
  /// Whether both are answered by the same request.
  @inline(__always)
  func isSameFault(as other: PendingFault) -> Bool { page == other.page && kind == other.kind }

  /// The order of a batch: by page, and faults of one page by kind.
  @inline(__always)
  func comesAfter(_ other: PendingFault) -> Bool {
    page > other.page || (page == other.page && kind.rawValue > other.kind.rawValue)
  }
}
