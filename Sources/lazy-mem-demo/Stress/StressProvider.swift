import FaultRuntime
import Glibc

/// The error that a provider of a run throws.
struct StressError: Error {
  /// The seed of the region, which no other region has.
  var region: UInt64
  var page: Int
}

/// Defects that a run makes on purpose, to check that it finds them.
enum StressPlant: String, CaseIterable {
  /// One byte of an answer is wrong.
  case mismatch
  /// A provider never returns.
  case hang
}

/// Supplies the bytes of the model, and makes the planned trouble. It keeps the rules for providers that run in the
/// faulting thread: it neither allocates nor takes a lock, and it waits for no other thread.
@safe
// Safe to share: the memory that it lends is not written after `init`.
final class StressProvider: PageProvider, @unchecked Sendable {
  private let model: StressModel
  private let tally: StressTally
  private let plant: StressPlant?
  /// The whole source for lending, and one more page for lending too much.
  private let memory: UnsafeMutableRawBufferPointer

  init(_ model: StressModel, _ tally: StressTally, plant: StressPlant?) {
    self.model = model
    self.tally = tally
    self.plant = plant
    let plan = model.plan
    unsafe memory = .allocate(
      byteCount: plan.lends ? plan.byteCount + model.pageSize : 0, alignment: model.pageSize)
    guard plan.lends else { return }
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0xff)
    unsafe model.makeSource(0, into: UnsafeMutableRawBufferPointer(rebasing: memory[..<plan.byteCount]))
    if plant == .mismatch { unsafe memory[0] ^= 0x10 }
  }

  deinit { unsafe memory.deallocate() }

  var requestSize: RequestSize { model.plan.requestSize }
  var permissions: ProviderPermissions { model.plan.permissions }

  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    if plant == .hang { while true { sleep(1) } }
    let count = try meetTrouble(request)
    let pages = model.pages(of: request.range)
    let excess = count - request.byteCount
    if excess == 0, pages.allSatisfy({ model.plan.isZero(page: $0) }) {
      tally.count(.zero)
      return .zero
    }
    if model.plan.lends {
      tally.count(.lent)
      return unsafe .lent(UnsafeRawBufferPointer(rebasing: memory[request.offset..<(request.offset + count)]))
    }
    tally.count(.filled)
    unsafe page.appendUnsafely { free in
      let part = unsafe UnsafeMutableRawBufferPointer(rebasing: free[..<count])
      unsafe model.makeSource(request.offset, into: part)
      if plant == .mismatch, request.offset == 0, count > 0 { unsafe part[0] ^= 0x10 }
      return count
    }
    return .filled
  }

  /// Returns the byte count of the answer, after the trouble of its pages. Throws the error of a page that is planned
  /// to fail.
  private func meetTrouble(_ request: PageRequest) throws(StressError) -> Int {
    let pageSize = model.pageSize
    for page in model.pages(of: request.range) {
      let before = page * pageSize - request.offset
      switch model.takeTrouble(page) {
      case .none:
        continue
      case .throwsError:
        try fail(page, .throwsError)
      case .throwsForEver:
        try fail(page, .throwsForEver)
      case .stallsShort:
        tally.count(.stallsShort)
        usleep(2000)
      case .stallsLong:
        tally.count(.stallsLong)
        usleep(model.plan.longStall)
      case .endsBefore where before > 0:
        tally.count(.endsBefore)
        return before
      case .endsBefore:
        continue
      case .answersHalf:
        tally.count(.answersHalf)
        model.mark(StressModel.answeredBadly, page)
        return before + min(pageSize, request.byteCount - before) / 2
      case .lendsTooMuch where model.plan.lends:
        tally.count(.lendsTooMuch)
        model.mark(StressModel.answeredBadly, page)
        return request.byteCount + 8
      case .lendsTooMuch:
        continue
      }
    }
    return request.byteCount
  }

  private func fail(_ page: Int, _ kind: StressTrouble) throws(StressError) {
    tally.count(kind)
    model.mark(StressModel.threwError, page)
    throw StressError(region: model.plan.seed, page: page)
  }
}
