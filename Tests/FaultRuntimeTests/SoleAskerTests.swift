import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Providers that one thread at a time may ask, without a userfaultfd", .timeLimit(.minutes(6)))
struct SoleAskerTests {
  private let request = PageRequest(offset: 0, byteCount: pageBytes)

  @Test("Of two threads the second one waits for the first, and a thread that comes back goes on")
  func turns() throws {
    let sole = SoleAsker(region: "one")
    let dam = Dam()
    defer { dam.open() }
    let inside = Occupancy()
    let first = Later {
      try? sole.ask(request) {
        inside.enter()
        dam.hold()
        let nested = try sole.ask(request) { 3 }
        inside.leave()
        return nested
      }
    }
    #expect(eventually { dam.callCount == 1 })
    let others = (0..<4).map { number in
      Later {
        try? sole.ask(request) {
          inside.enter()
          inside.leave()
          return number
        }
      }
    }
    // These yields give a thread that does not wait the time to show itself.
    for _ in 0..<2000 { sched_yield() }
    let hasOvertaken = others.contains { $0.isDone }
    #expect(!hasOvertaken)
    dam.open()
    #expect(try first.result() == 3)
    for (number, other) in others.enumerated() { #expect(try other.result() == number) }
    #expect(inside.most == 1)
  }

  @Test("Threads that would wait for each other: the last one gets an error", arguments: [2, 3])
  func circle(count: Int) throws {
    let askers = (0..<count).map { SoleAsker(region: "region \($0)") }
    let entered = Atomic<Int>(0)
    let threads = (0..<count).map { number in
      Later { () -> ResolutionError? in
        do {
          try askers[number].ask(PageRequest(offset: number * pageBytes, byteCount: pageBytes)) {
            entered.wrappingAdd(1, ordering: .relaxed)
            _ = eventually { entered.load(ordering: .relaxed) == count }
            try askers[(number + 1) % count].ask(PageRequest(offset: 9 * pageBytes, byteCount: pageBytes)) {}
          }
          return nil
        } catch {
          return error as? ResolutionError
        }
      }
    }
    let errors = try threads.compactMap { try $0.result() }
    #expect(errors.count == 1)
    let deadlock = try #require(errors.first?.deadlock)
    #expect(deadlock.touchedOffset == 9 * pageBytes)
    #expect(deadlock.region != deadlock.touchedRegion)
    #expect(deadlock.range.count == pageBytes)
  }

  @Test("Beside a serial thread that is stuck, no other provider is asked by two threads at a time")
  func besideStuck() throws {
    let dam = Dam()
    defer { dam.open() }
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .sigsegv, onNotice: { _ in }))
    let inside = Occupancy()
    let pages = 60
    let inner = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: []) { request, page in
        inside.enter()
        for _ in 0..<20 { sched_yield() }
        inside.leave()
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: pages * pageBytes, options: RegionOptions(advice: .random))
    let address = inner.address
    let outer = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: []) { request, page in
        guard case .byte(let byte) = read(address + UInt(request.offset)) else { throw Refused() }
        page.append(repeating: byte, count: request.byteCount)
        return .filled
      }, byteCount: pages * pageBytes, options: RegionOptions(advice: .random))
    let dead = try runtime.map(dam.provider(permissions: []), byteCount: pageBytes)
    let stuck = TestThread { _ = dead.access(0) }
    #expect(eventually { dam.callCount == 1 })
    let readers = [
      Later { (0..<pages).allSatisfy { outer.access($0 * pageBytes) == .byte(expectedByte($0 * pageBytes)) } },
      Later {
        (0..<pages).reversed().allSatisfy { inner.access($0 * pageBytes) == .byte(expectedByte($0 * pageBytes)) }
      },
    ]
    for reader in readers { #expect(try reader.result()) }
    #expect(inside.most == 1)
    dam.open()
    #expect(stuck.join())
  }
}
