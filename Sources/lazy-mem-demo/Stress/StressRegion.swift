import CStressSupport
import FaultRuntime
import Glibc
import Synchronization

/// A region under stress. It judges whether accesses and calls behave as they must.
final class StressRegion: Sendable {
  let model: StressModel
  let region: LazyRegion
  /// The address of the region's memory. The address range stays reserved after closing, as long as this object
  /// exists.
  let address: UInt
  private let registry: StressRegistry

  init(_ model: StressModel, _ runtime: FaultRuntime, _ registry: StressRegistry, plant: StressPlant?)
    throws(FaultRuntimeError)
  {
    self.model = model
    self.registry = registry
    registry.add(model)
    region = try runtime.map(
      StressProvider(model, registry.tally, plant: plant), byteCount: model.plan.byteCount,
      options: model.plan.options)
    address = unsafe UInt(bitPattern: region.unsafeBytes.baseAddress)
  }

  deinit {
    // The thread that drops the last reference closes the region.
    model.isClosing.store(true, ordering: .sequentiallyConsistent)
    region.close()
    registry.remove(model)
  }

  /// The number of the region as the watch encodes it.
  var number: UInt64 { UInt64(model.plan.slot) | UInt64(model.plan.generation) << 8 }

  func close() {
    model.isClosing.store(true, ordering: .sequentiallyConsistent)
    region.close()
    model.isClosed.store(true, ordering: .sequentiallyConsistent)
  }

  var isClosing: Bool { model.isClosing.load(ordering: .sequentiallyConsistent) }
  private var isClosed: Bool { model.isClosed.load(ordering: .sequentiallyConsistent) }

  /// Returns the byte range of `pages`, cut off at the exact length of the region.
  func clipped(_ pages: Range<Int>) -> Range<Int> {
    (pages.lowerBound * model.pageSize)..<min(pages.upperBound * model.pageSize, model.plan.byteCount)
  }

  // MARK: Judgement

  private func mismatch(_ what: String, _ page: Int, _ doing: StressOperation) {
    registry.tally.mismatch("\(doing): \(what); \(model.describe(page))")
  }

  /// Judges the result of a raw access to a page. `wasClosed` says whether the region was closed before the access,
  /// and `before` is the state of the page before it.
  ///
  /// - Returns: Whether bytes were read that can be compared.
  func judge(signal: CInt, page: Int, before: StressPageState, isWrite: Bool, wasClosed: Bool, _ doing: StressOperation)
    -> Bool
  {
    let mayWrite = model.plan.options.access == .readWrite
    let isFailure = signal == model.plan.runtime.failureSignal
    switch signal {
    case 0:
      if wasClosed { mismatch("an access after the closing succeeds", page, doing) }
      if isWrite, !mayWrite { mismatch("a write to read-only memory succeeds", page, doing) }
      if model.isNeverGiven(page) { mismatch("a page is there that nobody gave", page, doing) }
      return true
    case SIGSEGV where isClosing:
      registry.tally.failure("SIGSEGV after the closing")
    case SIGSEGV where isWrite && !mayWrite:
      registry.tally.failure("SIGSEGV of a write to read-only memory")
    case _ where isFailure && isClosing && !wasClosed:
      registry.tally.failure("\(name(signal)) while the region closes")
    case _ where isFailure && before.isThere && model.isUnchanged(page, since: before):
      mismatch("\(name(signal)) from a page that was there", page, doing)
    case _ where isFailure && !model.hasMark(StressModel.wasReported, page):
      mismatch("\(name(signal)) from a page of which no failure was reported", page, doing)
    case _ where isFailure && !wasClosed:
      registry.tally.failure("\(name(signal)) of a page that failed")
    default:
      mismatch("signal \(signal)", page, doing)
    }
    return false
  }

  private func name(_ signal: CInt) -> String { signal == SIGBUS ? "SIGBUS" : "SIGSEGV" }

  /// Returns whether closing had ended. The caller asks before an access.
  func wasClosed() -> Bool { isClosed }

  /// Compares bytes that were read at `offset` with the model.
  func judge(_ bytes: [UInt8], at offset: Int, before: [StressPageState], _ doing: StressOperation) {
    // `forEachUnsafePiece` does not leave pages resident.
    let isResident = doing != .forEachPiece
    if let place = model.firstMismatch(bytes, at: offset, before: before, isResident: isResident) {
      let (source, written) = model.candidates(at: place)
      mismatch(
        "the byte at \(place) is \(bytes[place - offset]), and the source has \(source), a write \(written)",
        place / model.pageSize, doing)
    }
    for page in model.pages(of: offset..<(offset + bytes.count)) where model.isNeverGiven(page) {
      mismatch("a page was had that nobody gave", page, doing)
    }
  }

  /// Judges the error that a call threw for a range.
  func judge(_ error: any Error, _ range: Range<Int>, before: [StressPageState], _ doing: StressOperation) {
    guard let error = error as? FaultRuntimeError else {
      registry.tally.mismatch("\(doing): threw \(error)")
      return
    }
    switch error.code {
    case .regionClosed:
      if !isClosing { registry.tally.mismatch("\(doing): regionClosed from a region that is open: \(error)") }
      registry.tally.failure("error regionClosed")
    case .pageFailed:
      guard let failure = error.failure else {
        registry.tally.mismatch("\(doing): pageFailed without a page: \(error)")
        return
      }
      let page = failure.offset / model.pageSize
      let pages = model.pages(of: range)
      guard pages.contains(page) else {
        registry.tally.mismatch("\(doing) of \(range): \(failure)")
        return
      }
      let known = before[page - pages.lowerBound]
      // A page that is there can be had in another way, for which a descriptor may lack.
      let isLimit = StressLimit.name(ofCause: failure.cause) != nil
      if known.isThere, !isLimit, model.isUnchanged(page, since: known) {
        mismatch("a page that was there fails", page, doing)
      }
      registry.judge(failure, model, doing.name)
      registry.tally.failure("error pageFailed, \(registry.name(ofCause: failure.cause))")
    default:
      registry.tally.mismatch("\(doing) of \(range): \(error)")
    }
  }
}

extension StressModel {
  /// Returns the two values that a byte can have: the source's, and the written one.
  func candidates(at offset: Int) -> (source: UInt8, written: UInt8) {
    func byte(_ seed: UInt64) -> UInt8 {
      var byte: UInt8 = 0
      unsafe cstress_make(seed, UInt64(offset), &byte, 1)
      return byte
    }
    let seed = sourceSeed(ofPage: offset / pageSize)
    return (seed == 0 ? 0 : byte(seed), byte(writtenSeed))
  }

  /// Returns a description of what is known of a page.
  func describe(_ page: Int) -> String {
    let state = state(ofPage: page)
    return """
      \(plan.name), page \(page) of \(pageCount), \(plan.runtime), trouble \
      \(plan.trouble(ofPage: page).kind.name), state \(state.word), mask \(String(state.mask, radix: 16)), timeout \
      \(plan.options.timeout.map { "\($0)" } ?? "none"), attempts \(plan.options.retry.attempts), request \
      \(plan.requestSize.preferred)...\(plan.requestSize.largest), \(plan.lends ? "lends" : "fills"), permits \
      \(plan.permissions), \(plan.options.advice)
      """
  }
}
