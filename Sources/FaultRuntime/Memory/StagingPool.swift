internal import CUFFD
internal import Synchronization

/// Staging memory for threads that answer their own faults. A thread takes and returns a slot without a lock and
/// without allocation, so the pool can be used in a signal handler. Slots that were never used cost no memory.
final class StagingPool: Sendable {
  // These have to be literals, because the compiler would otherwise see a lock in their initialization.
  private static let slotsInLane = 4
  private static let slotCount = 64
  static let slotByteCount = 256 << 10

  private let base: UInt
  private let lanes = InlineArray<16, Slots> { _ in Slots() }

  /// The slots for threads on some of the CPUs.
  private struct Slots: ~Copyable, Sendable {
    private let padding = InlineArray<15, Int>(repeating: 0)
    /// A set bit is a slot in use.
    let used = Atomic<UInt64>(0)
  }

  init() throws(HostCallError) {
    var mapped: UnsafeMutableRawPointer?
    let byteCount = Self.slotCount * Self.slotByteCount
    if let errno = unsafe KernelErrno(returned: cuffd_map_anonymous(byteCount, true, &mapped)) {
      throw HostCallError(
        call: "mmap", errno: errno, shortage: MemoryFacts.ofThisProcess().shortage(mapping: byteCount, errno))
    }
    base = UInt(bitPattern: mapped)
  }

  deinit {
    _ = cuffd_unmap(UInt64(base), Self.slotCount * Self.slotByteCount)
  }

  /// Runs `body` with `byteCount` bytes, which contain arbitrary data. Throws a ``ResolutionError`` with the code
  /// `refused` if there is no memory for them, and what `body` throws.
  @inline(__always)
  func withBytes<Result>(
    _ byteCount: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Result
  ) throws -> Result {
    guard byteCount <= Self.slotByteCount, let slot = take() else { return unsafe try withOwnMapping(byteCount, body) }
    defer {
      lanes[slot / Self.slotsInLane].used.bitwiseAnd(~(1 << UInt64(slot % Self.slotsInLane)), ordering: .releasing)
    }
    let start = unsafe UnsafeMutableRawPointer(bitPattern: base + UInt(slot * Self.slotByteCount))
    return unsafe try body(UnsafeMutableRawBufferPointer(start: start, count: byteCount))
  }

  @_noLocks @_noAllocation
  @inline(__always)
  private func take() -> Int? {
    let lane = Lane.current()
    if let slot = take(in: lane) { return slot }
    return takeElsewhere(lane)
  }

  @_noLocks @_noAllocation
  private func takeElsewhere(_ lane: Int) -> Int? {
    for distance in 1..<Lane.count {
      if let slot = take(in: (lane + distance) % Lane.count) { return slot }
    }
    return nil
  }

  @_noLocks @_noAllocation
  @inline(__always)
  private func take(in lane: Int) -> Int? {
    let full: UInt64 = (1 << UInt64(Self.slotsInLane)) - 1
    var seen = lanes[lane].used.load(ordering: .relaxed)
    while seen != full {
      let slot = (~seen).trailingZeroBitCount
      let (exchanged, original) = lanes[lane].used.weakCompareExchange(
        expected: seen, desired: seen | (1 << UInt64(slot)), ordering: .acquiring)
      if exchanged { return lane * Self.slotsInLane + slot }
      seen = original
    }
    return nil
  }

  /// Maps memory for one request that is larger than a slot, or that finds all slots in use. This costs two system
  /// calls, but the caller never waits for another thread, which may be waiting for the caller.
  private func withOwnMapping<Result>(
    _ byteCount: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Result
  ) throws -> Result {
    var mapped: UnsafeMutableRawPointer?
    guard unsafe cuffd_map_anonymous(byteCount, true, &mapped) == 0 else {
      throw ResolutionError.noBuffer(of: byteCount)
    }
    defer { _ = cuffd_unmap(UInt64(UInt(bitPattern: mapped)), byteCount) }
    return unsafe try body(UnsafeMutableRawBufferPointer(start: mapped, count: byteCount))
  }
}
