/// The regions of an address space, found by address. ``AddressTable`` describes how.
@safe
// Safe to share for the same reason as `AddressTable`, to which this class adds no field.
final class RegionTable<Member: TableMember>: AddressTable, @unchecked Sendable {
  /// Returns the region in which `address` lies. Lock-free, O(log regions).
  @inline(__always)
  func region(containing address: UInt) -> Member? {
    unsafe reading { snapshot in
      guard let entry = unsafe snapshot.pointee.entry(containing: address) else { return nil }
      // The region is retained before this reader leaves, because the table may release the region afterwards.
      return unsafe Unmanaged<Member>.fromOpaque(entry.pointee.member).retain().takeRetainedValue()
    }
  }

  /// Enters the handle that the region at `address` has for the caller's lane, to which threads on few other CPUs
  /// write. The caller has to leave the handle. Returns nil if there is no region, or if the region has no handles.
  /// Lock-free, O(log regions).
  @inline(__always)
  func enterHandle(containing address: UInt) -> Unmanaged<TableHandle<Member>>? {
    unsafe reading { snapshot in
      guard let entry = unsafe snapshot.pointee.entry(containing: address), let handles = unsafe entry.pointee.handles
      else { return nil }
      let handle = unsafe Unmanaged<TableHandle<Member>>.fromOpaque(handles[Lane.current()])
      unsafe handle._withUnsafeGuaranteedRef { $0.enter() }
      return unsafe handle
    }
  }

  /// Adds a region. Its range must not overlap another region: memory of one region is never mapped over memory of
  /// another. Takes a lock. O(regions).
  ///
  /// - Parameter isForManyThreads: whether callers use ``enterHandle(containing:)`` for this region, which needs
  ///   handles for that.
  func insert(_ member: Member, isForManyThreads: Bool = false) {
    let isInserted = insertIfFree(member, isForManyThreads: isForManyThreads)
    precondition(isInserted, "FaultRuntime: a region overlaps another one")
  }

  /// The same, but where the range of the region overlaps another one, this adds nothing and returns false.
  func insertIfFree(_ member: Member, isForManyThreads: Bool = false) -> Bool {
    let handles = unsafe isForManyThreads ? Self.makeHandles(of: member) : nil
    // The closure is `Sendable`, and a pointer is not, so the closure captures the address as a number.
    let address = UInt(bitPattern: handles)
    let isInserted = unsafe insert(
      Entry(member: member, cleanUp: { Self.leaveHandles(at: address) }),
      TableSnapshot.Entry(
        range: member.range, group: member.group, member: Unmanaged.passUnretained(member).toOpaque(), handles: handles)
    )
    if !isInserted { Self.leaveHandles(at: address) }
    return isInserted
  }

  /// Removes a region, and returns when no reader is using the old snapshot any more. Takes a lock. O(regions).
  func remove(_ member: Member) { remove(memberAt: member.range) { $0 === member } }

  private static func makeHandles(of member: Member) -> UnsafeMutablePointer<UnsafeRawPointer> {
    let handles = UnsafeMutablePointer<UnsafeRawPointer>.allocate(capacity: Lane.count)
    for lane in 0..<Lane.count {
      unsafe (handles + lane).initialize(to: Unmanaged.passRetained(TableHandle(member)).toOpaque())
    }
    return unsafe handles
  }

  private static func leaveHandles(at address: UInt) {
    guard let handles = unsafe UnsafeMutablePointer<UnsafeRawPointer>(bitPattern: address) else { return }
    for lane in 0..<Lane.count { unsafe TableHandle<Member>.leave(.fromOpaque(handles[lane])) }
    unsafe handles.deallocate()
  }
}
