internal import Synchronization

/// Recognises accesses that run on, which means that they continue in order, and decides how much to request at once.
/// The request doubles with each fault that lies right where the last request ended, and it is one unit again for a
/// fault that is far from all streams. The readahead of the kernel works in the same way.
///
/// Several threads may read on in several places, so this type remembers a few streams. All of this is only a hint: if
/// threads record faults at the same time, one fault may be lost, and the next request is smaller than it could be.
struct AccessStreams: ~Copyable, Sendable {
  private static var slotCount: Int { 8 }
  private static var windowBits: UInt64 { 8 }

  /// Each slot holds the unit at which its stream is expected to continue and, in the lowest 8 bits, the binary
  /// logarithm of the stream's window in units. At first no slot has a stream.
  private let slots = InlineArray<8, Atomic<UInt64>> { _ in Atomic(UInt64.max << 8) }
  private let oldest = Atomic<Int>(0)

  /// Records a fault on `count` units from `unit` on. Returns how many units from `unit` on should be requested,
  /// which is at least `count` and at most `largest`.
  @_noLocks @_noAllocation
  @inline(__always)
  func window(from unit: Int, count: Int, largest: Int) -> Int {
    guard largest > count else { return count }
    let index = UInt64(unit)
    for slot in 0..<Self.slotCount {
      let seen = slots[slot].load(ordering: .relaxed)
      let next = seen >> Self.windowBits
      let width: UInt64 = 1 << (seen & 0xff)
      // Most faults are far from most streams, so a single comparison skips those streams.
      guard index &+ width &- next < 2 &* width else { continue }
      // The unit is part of the latest request, which is still on its way or has left the unit out.
      if index < next { return count }
      let isNext = index == next
      var logarithm = (seen & 0xff) &+ (isNext ? 1 : 0)
      while logarithm > 0, 1 << logarithm > UInt64(largest) { logarithm &-= 1 }
      let wanted = max(count, 1 << logarithm)
      slots[slot].store(Self.entry(UInt64(unit &+ wanted), logarithm), ordering: .relaxed)
      return wanted
    }
    let victim = oldest.load(ordering: .relaxed)
    oldest.store((victim &+ 1) % Self.slotCount, ordering: .relaxed)
    slots[victim].store(Self.entry(UInt64(unit &+ count), 0), ordering: .relaxed)
    return count
  }

  /// Lets the stream that was expected to continue at `unit` continue at `actual`, with a window of one unit. The
  /// request has met pages that are already there or could not be produced.
  @_noLocks @_noAllocation
  func shrink(goingOnAt unit: Int, insteadAt actual: Int) {
    for slot in 0..<Self.slotCount where slots[slot].load(ordering: .relaxed) >> Self.windowBits == UInt64(unit) {
      slots[slot].store(Self.entry(UInt64(actual), 0), ordering: .relaxed)
    }
  }

  /// Lets the stream that was expected to continue at `unit` continue at `actual`, with an unchanged window. The
  /// pages in between have been filled in advance.
  func move(goingOnAt unit: Int, to actual: Int) {
    for slot in 0..<Self.slotCount {
      let seen = slots[slot].load(ordering: .relaxed)
      guard seen >> Self.windowBits == UInt64(unit) else { continue }
      slots[slot].store(Self.entry(UInt64(actual), seen & 0xff), ordering: .relaxed)
    }
  }

  @inline(__always)
  private static func entry(_ next: UInt64, _ logarithm: UInt64) -> UInt64 { next << windowBits | logarithm }
}
