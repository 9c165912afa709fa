internal import Synchronization

/// Holds a member of a table for the threads on some of the CPUs. If many threads use one region, each of them is
/// counted in one of the region's handles. A single count, to which every fault writes, would move between the
/// CPUs all the time.
///
/// The count is a field of the handle. The reference count of the object would cost two calls into the Swift runtime
/// for each fault.
@safe
final class TableHandle<Member: TableMember>: Sendable {
  /// The number of users: the table, and the threads that have entered.
  private let users = Atomic<Int>(1)
  @unsafe private let held: Unmanaged<Member>
  // The padding keeps the next handle in another cache line.
  private let padding = InlineArray<14, Int>(repeating: 0)

  init(_ member: Member) { unsafe held = .passRetained(member) }

  deinit { unsafe held.release() }

  /// The member, which stays alive until the caller calls `leave`. Reading this changes no reference count.
  @inline(__always)
  var member: Unmanaged<Member> { unsafe held }

  /// For tests.
  var userCount: Int { users.load(ordering: .relaxed) }

  /// Counts the caller in. The caller has to be sure that the table has the member during the call.
  @inline(__always)
  func enter() { users.wrappingAdd(1, ordering: .relaxed) }

  /// Counts the caller out. The last user frees the handle.
  @inline(__always)
  static func leave(_ handle: Unmanaged<TableHandle>) {
    let isLast = unsafe handle._withUnsafeGuaranteedRef {
      $0.users.wrappingSubtract(1, ordering: .acquiringAndReleasing).newValue == 0
    }
    if isLast { unsafe handle.release() }
  }
}
