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

  /// Memory that a thread has borrowed.
  @unsafe
  struct Loan {
    let bytes: UnsafeMutableRawBufferPointer
    /// The number of the slot; -1 for a mapping.
    fileprivate let slot: Int
    /// The answer that has a note of this memory, in case that its handler is left without a return.
    fileprivate let answer: OpaquePointer?
  }

  /// Lends `byteCount` bytes, which contain arbitrary data. The caller gives them back with ``giveBack(_:)``. This is
  /// no function that takes a closure, because the closure would count references to what it captures, and the count
  /// would never go down again if a handler of the program left it by `siglongjmp`.
  ///
  /// - Throws: a ``ResolutionError`` with the code `refused` if there is no memory.
  @inline(__always)
  func borrow(_ byteCount: Int) throws(ResolutionError) -> Loan {
    guard byteCount <= Self.slotByteCount, let slot = take() else { return unsafe try borrowMapping(byteCount) }
    let answer = unsafe cuffd_answer_borrow(Unmanaged.passUnretained(self).toOpaque(), UInt64(slot), 0)
    let start = unsafe UnsafeMutableRawPointer(bitPattern: base + UInt(slot * Self.slotByteCount))
    return unsafe Loan(
      bytes: UnsafeMutableRawBufferPointer(start: start, count: byteCount), slot: slot, answer: answer)
  }

  @inline(__always)
  func giveBack(_ loan: Loan) {
    if let answer = unsafe loan.answer { unsafe cuffd_answer_return(answer) }
    if unsafe loan.slot >= 0 { return unsafe giveBack(loan.slot) }
    let bytes = unsafe loan.bytes
    _ = cuffd_unmap(UInt64(UInt(bitPattern: bytes.baseAddress)), bytes.count)
  }

  @inline(__always)
  private func giveBack(_ slot: Int) {
    lanes[slot / Self.slotsInLane].used.bitwiseAnd(~(1 << UInt64(slot % Self.slotsInLane)), ordering: .releasing)
  }

  /// Takes back memory whose user was left by `siglongjmp`, or ended with its thread.
  static func takeBack(_ loan: cuffd_loan) {
    guard let pool = unsafe loan.pool else {
      _ = unsafe cuffd_unmap(loan.start, Int(loan.length))
      return
    }
    unsafe Unmanaged<StagingPool>.fromOpaque(pool)._withUnsafeGuaranteedRef { unsafe $0.giveBack(Int(loan.start)) }
  }

  /// For tests.
  var slotsInUse: Int { (0..<Lane.count).reduce(0) { $0 + lanes[$1].used.load(ordering: .relaxed).nonzeroBitCount } }

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
  @inline(never)
  private func borrowMapping(_ byteCount: Int) throws(ResolutionError) -> Loan {
    var mapped: UnsafeMutableRawPointer?
    guard unsafe cuffd_map_anonymous(byteCount, true, &mapped) == 0 else { throw .noBuffer(of: byteCount) }
    let start = UInt64(UInt(bitPattern: mapped))
    let answer = unsafe cuffd_answer_borrow(nil, start, UInt64(byteCount))
    return unsafe Loan(
      bytes: UnsafeMutableRawBufferPointer(start: mapped, count: byteCount), slot: -1, answer: answer)
  }
}
