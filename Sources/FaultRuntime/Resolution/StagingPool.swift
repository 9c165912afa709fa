internal import CUFFD
internal import Synchronization

/// Staging memory for threads that answer their own faults: taken and given back without a lock and without allocation, in
/// a signal handler. Untouched slots cost no memory.
final class StagingPool: Sendable {
  private static let slotCount = 64
  static let slotByteCount = 256 << 10

  private let base: UInt
  /// A set bit is a slot in use.
  private let used = Atomic<UInt64>(0)

  init?() {
    var mapped: UnsafeMutableRawPointer?
    guard unsafe cuffd_map_anonymous(Self.slotCount * Self.slotByteCount, true, &mapped) == 0 else { return nil }
    base = UInt(bitPattern: mapped)
  }

  deinit {
    _ = cuffd_unmap(UInt64(base), Self.slotCount * Self.slotByteCount)
  }

  /// Runs `body` with `byteCount` bytes, whose contents are left over. Throws where there is no memory for them.
  @inline(__always)
  func withBytes<Result>(
    _ byteCount: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Result
  ) throws -> Result {
    guard byteCount <= Self.slotByteCount, let slot = take() else { return unsafe try withOwnMapping(byteCount, body) }
    defer { used.bitwiseAnd(~(1 << UInt64(slot)), ordering: .releasing) }
    let start = unsafe UnsafeMutableRawPointer(bitPattern: base + UInt(slot * Self.slotByteCount))
    return unsafe try body(UnsafeMutableRawBufferPointer(start: start, count: byteCount))
  }

  @_noLocks @_noAllocation
  @inline(__always)
  private func take() -> Int? {
    var seen = used.load(ordering: .relaxed)
    while seen != .max {
      let slot = (~seen).trailingZeroBitCount
      let (exchanged, original) = used.weakCompareExchange(
        expected: seen, desired: seen | (1 << UInt64(slot)), ordering: .acquiring)
      if exchanged { return slot }
      seen = original
    }
    return nil
  }

  /// More than a slot, or a crowd of threads: two system calls, and never a wait for a thread that may wait for us.
  private func withOwnMapping<Result>(
    _ byteCount: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Result
  ) throws -> Result {
    var mapped: UnsafeMutableRawPointer?
    guard unsafe cuffd_map_anonymous(byteCount, true, &mapped) == 0 else {
      throw ResolutionError.refused(.outOfMemory)
    }
    defer { _ = cuffd_unmap(UInt64(UInt(bitPattern: mapped)), byteCount) }
    return unsafe try body(UnsafeMutableRawBufferPointer(start: mapped, count: byteCount))
  }
}
