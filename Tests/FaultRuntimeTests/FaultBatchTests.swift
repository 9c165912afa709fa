import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Sorting and merging of faults", .timeLimit(.minutes(6)))
struct FaultBatchTests {
  private let runtime: FaultRuntime
  init() throws { runtime = try FaultRuntime() }

  private func core(pages: Int, preferred: Int, largest: Int) throws -> Region {
    try Region(
      testing: patternProvider(requestSize: RequestSize(preferred: preferred, largest: largest)),
      byteCount: pages * pageBytes)
  }

  private func fault(_ core: Region, _ index: Int, write: Bool = false) -> PendingFault {
    PendingFault(page: core.range.start + UInt(index * pageBytes), isWrite: write)
  }

  @Test("Faults come out sorted, one for each page, and a write is remembered")
  func sorting() {
    var batch = FaultBatch(capacity: 8)
    for (address, write) in [(3, false), (1, false), (3, true), (2, false), (1, false)] {
      batch.insert(PendingFault(page: UInt(address * pageBytes), isWrite: write))
    }
    #expect(batch.count == 3)
    #expect((0..<3).map { Int(batch[$0].page) / pageBytes } == [1, 2, 3])
    #expect((0..<3).map { batch[$0].isWrite } == [false, false, true])
  }

  @Test("The time of the first deferral survives merging")
  func deferral() {
    var batch = FaultBatch(capacity: 4)
    batch.insert(PendingFault(page: UInt(pageBytes), isWrite: false, deferredSince: 0))
    batch.insert(PendingFault(page: UInt(pageBytes), isWrite: false, deferredSince: 9))
    batch.insert(PendingFault(page: UInt(pageBytes), isWrite: false, deferredSince: 5))
    batch.insert(PendingFault(page: UInt(pageBytes), isWrite: false, deferredSince: 7))
    #expect(batch[0].deferredSince == 5)
  }

  @Test("A fault brings the unit around it")
  func unit() throws {
    let core = try core(pages: 10, preferred: 4 * pageBytes, largest: 16 * pageBytes)
    let run = FaultRun(region: core, fault: fault(core, 5), index: 0)
    #expect(run.request == PageRequest(offset: 4 * pageBytes, byteCount: 4 * pageBytes))
    // The last unit ends at the end of the region.
    let last = FaultRun(region: core, fault: fault(core, 9), index: 0)
    #expect(last.request == PageRequest(offset: 8 * pageBytes, byteCount: 2 * pageBytes))
  }

  @Test("Neighbours become one request, up to the largest; a gap or another region does not")
  func merging() throws {
    let core = try core(pages: 64, preferred: 2 * pageBytes, largest: 6 * pageBytes)
    let other = try self.core(pages: 64, preferred: 2 * pageBytes, largest: 6 * pageBytes)
    var run = FaultRun(region: core, fault: fault(core, 0), index: 0)
    let within = run.absorb(fault(core, 1))
    let neighbour = run.absorb(fault(core, 3))
    let gap = run.absorb(fault(core, 6))
    let foreign = run.absorb(fault(other, 4))
    let third = run.absorb(fault(core, 5))
    let tooLarge = run.absorb(fault(core, 6))
    #expect([within, neighbour, gap, foreign, third, tooLarge] == [true, true, false, false, true, false])
    #expect(run.request == PageRequest(offset: 0, byteCount: 6 * pageBytes))
    #expect(run.faults == 0..<4)
  }

  @Test("Threads on one page and on its neighbours are answered by one request")
  func mergedInOneBatch() throws {
    let gate = Gate()
    let requests = Requests()
    let region = try runtime.map(
      ClosureProvider(requestSize: RequestSize(preferred: 1, largest: 64 << 10), permissions: .onHandler) {
        request, page in
        requests.add(request)
        // The first request blocks the handler until all threads wait.
        if request.offset == 0 { gate.wait() }
        page.append(request.range.lazy.map { expectedByte($0) })
        return .filled
      }, byteCount: 64 * pageBytes)
    let descriptor = region.descriptorNumber

    let first = TestThread { #expect(region.access(0) == .byte(expectedByte(0))) }
    #expect(eventually { requests.all.count == 1 })
    let touched = [8, 9, 10, 11, 11, 11, 20]
    let others = touched.map { index in
      TestThread { #expect(region.access(index * pageBytes) == .byte(expectedByte(index * pageBytes))) }
    }
    #expect(eventually { waiters(on: descriptor).unread == touched.count })
    gate.open()
    #expect(first.join())
    for other in others { #expect(other.join()) }

    #expect(
      requests.all == [
        PageRequest(offset: 0, byteCount: pageBytes), PageRequest(offset: 8 * pageBytes, byteCount: 4 * pageBytes),
        PageRequest(offset: 20 * pageBytes, byteCount: pageBytes),
      ])
    let statistics = runtime.statistics
    #expect(statistics.faults == 1 + touched.count)
    #expect(statistics.batches == 2)
    #expect(statistics.largestBatch == touched.count)
    #expect(statistics.requests == 3)
    #expect(statistics.bytesFilled == 6 * pageBytes)
  }
}
