internal import Synchronization

/// Holds a member of a table for the threads on some of the CPUs. Where many threads use one region, each of them is counted in
/// one of the region's handles, because a count to which every fault writes goes back and forth between the CPUs.
///
/// The count is the handle's own and not that of the object, which the Swift runtime would keep with two calls into a library for
/// each fault.
@safe
final class TableHandle<Member: TableMember>: Sendable {
  /// The table, and the threads that have entered.
  private let users = Atomic<Int>(1)
  @unsafe private let held: Unmanaged<Member>
  // This keeps the next handle in another cache line.
  private let padding = InlineArray<14, Int>(repeating: 0)

  init(_ member: Member) { unsafe held = .passRetained(member) }

  deinit { unsafe held.release() }

  /// The member, which is there until `leave`. Taking it counts nothing.
  @inline(__always)
  var member: Unmanaged<Member> { unsafe held }

  /// Counts the caller in. The caller has to be certain that the table still has the member.
  @inline(__always)
  func enter() { users.wrappingAdd(1, ordering: .relaxed) }

  /// Counts the caller out. The last one frees the handle.
  @inline(__always)
  static func leave(_ handle: Unmanaged<TableHandle>) {
    let isLast = unsafe handle._withUnsafeGuaranteedRef {
      $0.users.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0
    }
    if isLast { unsafe handle.release() }
  }
}
