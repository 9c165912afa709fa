import TestSupport
import Testing

@testable import FaultRuntime

/// Checks which tasks of a pool may begin, without a thread that makes a call.
@Suite("The accounts of a pool", .timeLimit(.minutes(6)))
struct PoolStateTests {
  /// Makes the state of a pool whose threads have ended; each has a number, from 1 on.
  private static func state(_ limits: PoolLimits, threads: Int, isSerial: Bool) throws -> PoolState {
    var state = PoolState(limits)
    for index in 0..<threads {
      let thread = try FaultThread(name: "ended", stackByteCount: 1 << 20) {}
      thread.end(nanoseconds: 30_000_000_000)
      state.add(PoolState.Slot(thread: thread, isSerial: isSerial, number: UInt32(index + 1)), at: index)
    }
    return state
  }

  private static func server(_ limits: PoolLimits) throws -> SigsegvServer {
    try SigsegvServer(testing: ProviderPool(limits: limits, ownThreads: OwnThreads()))
  }

  @Test("A thread that was started for a region without one is not the spare one of those that wait in faults")
  func spareThread() throws {
    let limits = PoolLimits(threads: 1)
    let server = try Self.server(limits)
    let region = try Region(testing: patternProvider(mayBlock: true), byteCount: pageBytes)
    try #require(!server.asksSerially(region))
    var state = try Self.state(limits, threads: 2, isSerial: false)
    state.add(.demand(PoolRequest(), region, server))
    let task = state.take(for: 0)
    #expect(task != nil)
    // One thread should be available, and it waits. The other one is idle, and is more than there should be.
    let first = state.noteWait(of: 1)
    #expect(first)
    #expect(state.wanted(isSerial: false) == 2)
    // Now the idle one is the one that should be there beside the one that waits.
    let second = state.noteWait(of: 1)
    #expect(!second)
    #expect(state.wanted(isSerial: false) == 2)
    let hasEnded = state.end(0)
    #expect(hasEnded)
  }

  @Test("Behind a serial call that lasts, as many others are made at a time as the pool has threads")
  func serialBehindLate() throws {
    let limits = PoolLimits(threads: 4, patience: 10_000_000_000)
    let server = try Self.server(limits)
    let regions = try (0..<7).map { _ in try Region(testing: patternProvider(), byteCount: pageBytes) }
    try #require(regions.allSatisfy { server.asksSerially($0) })
    var state = try Self.state(limits, threads: regions.count, isSerial: true)
    for region in regions { state.add(.demand(PoolRequest(), region, server)) }
    var begun: [Bool] = []
    for index in 0..<2 { begun.append(state.take(for: index) != nil) }
    #expect(begun == [true, false])
    state.slots[0].since -= 2 * limits.patience
    for index in 1..<7 { begun.append(state.take(for: index) != nil) }
    #expect(begun.dropFirst(2) == [true, true, true, true, false, false])
    for index in 0..<5 {
      let hasEnded = state.end(index)
      #expect(hasEnded)
    }
  }
}
