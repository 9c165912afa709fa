internal import Synchronization

/// Recognises accesses that run on, and says how much to ask for at once: twice as much with each fault that goes on right
/// where the last request ended, and one unit again where none did. The kernel's own readahead works this way.
///
/// Several threads may read on in several places, so a few streams are remembered. Everything is a hint: threads that
/// record faults at the same time may lose one, which costs a request that is smaller than it could be.
struct AccessStreams: ~Copyable, Sendable {
  private static var slotCount: Int { 8 }
  private static var windowBits: UInt64 { 8 }

  /// Each holds where a stream goes on, in units, and the binary logarithm of its window. At first nowhere.
  private let slots = InlineArray<8, Atomic<UInt64>> { _ in Atomic(UInt64.max << 8) }
  private let oldest = Atomic<Int>(0)

  /// Records a fault on `count` units from `unit` on, and returns how many units from there to ask for: `count` to `largest`.
  @_noLocks @_noAllocation
  @inline(__always)
  func window(from unit: Int, count: Int, largest: Int) -> Int {
    guard largest > count else { return count }
    let index = UInt64(unit)
    for slot in 0..<Self.slotCount {
      let seen = slots[slot].load(ordering: .relaxed)
      let next = seen >> Self.windowBits
      let width: UInt64 = 1 << (seen & 0xff)
      // Most faults are far from most streams: one comparison leaves them.
      guard index &+ width &- next < 2 &* width else { continue }
      // A part of the latest request, which is still on its way, or was left out.
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

  /// Lets the stream that was to go on at `unit` go on at `actual`, in small steps again: the request met pages that are
  /// there, or that could not be had.
  @_noLocks @_noAllocation
  func shrink(goingOnAt unit: Int, insteadAt actual: Int) {
    for slot in 0..<Self.slotCount where slots[slot].load(ordering: .relaxed) >> Self.windowBits == UInt64(unit) {
      slots[slot].store(Self.entry(UInt64(actual), 0), ordering: .relaxed)
    }
  }

  /// Lets the stream that was to go on at `unit` go on at `actual`, as wide as before: what is in between was filled ahead.
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
