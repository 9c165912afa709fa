/// A page that threads wait for.
struct PendingFault: Hashable, Sendable {
  /// The start of the page.
  var page: UInt
  /// Whether any of the accesses was a write.
  var isWrite: Bool
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
