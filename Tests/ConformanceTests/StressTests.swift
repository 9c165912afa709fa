import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// A small version of uffd-stress. Threads count in random pages, whose content is discarded and comes back through
/// faults, again and again. A page that came late, twice, or with wrong bytes loses counts.
extension UffdUnitTests {
  @Test("uffd-stress", arguments: MemoryKind.here)
  func stress(kind: MemoryKind) throws {
    try stress(kind, writeProtected: false)
  }

  @Test(
    "uffd-stress with write protection",
    .enabled(if: Host.has(.writeProtectHugetlbfsShmem), SkipReason.writeProtectShmem), arguments: MemoryKind.here)
  func stressWriteProtected(kind: MemoryKind) throws {
    try stress(kind, writeProtected: true)
  }

  private func stress(_ kind: MemoryKind, writeProtected: Bool) throws {
    let protection: UserfaultfdFeatures = writeProtected ? .writeProtection(of: kind) : []
    let uffd = try Userfaultfd.open(protection)
    let memory = try Memory(mapping: kind, pages: kind.isHuge ? 4 : 64)
    let store = Memory(.anon, pages: memory.range.byteCount / MemoryKind.anon.pageBytes)
    try uffd.register(memory.range, mode: writeProtected ? [.missing, .writeProtect] : .missing)
    let counters = Counters(memory)
    let threadCount = 4
    let countsPerThread = 1000
    for round in 1...20 {
      let threads = (0..<threadCount).map { thread in
        Later { counters.count(countsPerThread, seed: UInt64(round * threadCount + thread)) }
      }
      let lifted = try serve(memory, from: store, writeProtected: writeProtected, by: uffd) {
        threads.allSatisfy(\.isDone)
      }
      for thread in threads { #expect(try thread.result() == 0) }
      #expect(writeProtected ? lifted >= counters.pageCount : lifted == 0)
      #expect(counters.total() == round * threadCount * countsPerThread)
      // The content is saved where the next faults find it.
      unsafe memcpy(UnsafeMutableRawPointer(mutating: store.pointer), memory.pointer, memory.range.byteCount)
      for page in 0..<counters.pageCount { #expect(memory.drop(page) == nil) }
    }
  }

  /// Answers faults until `isFinished` returns true. Returns how often it lifted a protection.
  private func serve(
    _ memory: Memory, from store: Memory, writeProtected: Bool, by uffd: borrowing Userfaultfd,
    until isFinished: () -> Bool
  ) throws -> Int {
    var lifted = 0
    var buffer = MessageBuffer(capacity: 8)
    try #require(
      try eventually {
        try uffd.read(into: &buffer)
        for index in 0..<buffer.count {
          guard case .pagefault(let address, let flags, _) = buffer[index] else { continue }
          let page = memory.page(Int(address - memory.range.start) / memory.pageBytes)
          if flags.contains(.writeProtect) {
            try uffd.writeProtect(page, false)
            lifted += 1
            continue
          }
          let source = unsafe store.pointer + Int(page.start - memory.range.start)
          do throws(ResolveError) {
            try unsafe uffd.copy(page, from: source, mode: writeProtected ? .writeProtected : [])
          } catch {
            // Two threads have faulted on this page.
            guard error.errno == .fileExists else { throw error }
            try uffd.wake(page)
          }
        }
        return isFinished()
      })
    return lifted
  }
}

/// Counters at the start and at the end of each page, which always agree, under a lock for each page.
private final class Counters: Sendable {
  let pageCount: Int
  private let memory: Memory
  private let locks: [Monitor<Int>]

  init(_ memory: Memory) {
    self.memory = memory
    pageCount = memory.range.byteCount / memory.pageBytes
    locks = (0..<pageCount).map { _ in Monitor(0) }
  }

  /// Counts in random pages. Returns how often a counter differed from the last count.
  func count(_ times: Int, seed: UInt64) -> Int {
    var state = seed &* 0x9e37_79b9_7f4a_7c15 | 1
    var wrong = 0
    for _ in 0..<times {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      let page = Int(state % UInt64(pageCount))
      locks[page].withLock { expected in
        let first = unsafe pointer(page)
        let last = unsafe pointer(page, atEnd: true)
        let found = unsafe (first.pointee, last.pointee)
        if found != (expected, expected) { wrong += 1 }
        expected += 1
        unsafe first.pointee += 1
        unsafe last.pointee += 1
      }
    }
    return wrong
  }

  func total() -> Int {
    (0..<pageCount).reduce(0) { unsafe $0 + pointer($1).pointee }
  }

  private func pointer(_ page: Int, atEnd: Bool = false) -> UnsafeMutablePointer<Int> {
    let range = memory.page(page)
    let address = atEnd ? range.end - UInt(MemoryLayout<Int>.size) : range.start
    return unsafe UnsafeMutablePointer(bitPattern: address)!
  }
}
