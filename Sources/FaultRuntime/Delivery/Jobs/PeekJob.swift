internal import CUFFD

/// A request for bytes of a provider that are not put into the region. The thread that asks the provider uses the
/// fields until `done` is signalled. After that, the thread that waits uses them.
@safe
// Safe to share: a lock hands the job over, and `done` hands it back. A thread that gives up and a late answer agree
// through the permit.
final class PeekJob: @unchecked Sendable {
  let region: Region
  let range: Range<Int>
  private let destination: UnsafeMutableRawBufferPointer
  private(set) var failure: (any Error)?
  let done = OneShotEvent()
  private let permit = AnswerPermit()

  /// - Parameters:
  ///   - range: whole pages, at most as many as one request may ask for.
  ///   - destination: memory as long as the range. Nothing is written to it after `wait` has returned.
  @unsafe
  init(_ region: Region, _ range: Range<Int>, into destination: UnsafeMutableRawBufferPointer) {
    self.region = region
    self.range = range
    unsafe self.destination = destination
  }

  /// Asks the provider on the calling thread, again after errors as the region's retry policy says, and copies the
  /// answer.
  func run(_ staging: inout StagingBuffer, forbidden: RegionGroup?) {
    var attempts = RetryAttempts(region.retry)
    var outcome = Result { try ask(&staging, forbidden) }
    while case .failure(let error) = outcome,
      attempts.mayGoOn(after: error, until: { [region, permit] in region.isClosing || permit.isWithdrawn })
    {
      outcome = Result { try ask(&staging, forbidden) }
    }
    if case .failure(let error) = outcome {
      guard (try? permit.beginPlacing()) != nil else { return }
      failure = error
    }
    done.signal()
  }

  /// Ends the job with an error, in place of asking the provider.
  func refuse(_ error: any Error) {
    failure = error
    done.signal()
  }

  private func ask(_ staging: inout StagingBuffer, _ forbidden: RegionGroup?) throws {
    guard !region.isClosing else { throw ResolutionError.regionClosed }
    guard let stage = unsafe staging.bytes(range.count, pageSize: region.pageSize) else {
      throw ResolutionError.noBuffer(of: range.count)
    }
    let run = FaultRun(region: region, from: range.lowerBound, to: range.upperBound)
    let answer = unsafe try run.ask(
      lastWanted: run.end - region.pageSize.bytes, isWrite: false, stage: stage,
      isForbidden: { forbidden?.intersects($0) ?? false })
    try permit.beginPlacing()
    try unsafe copy(answer.first)
    if let second = unsafe answer.second { try unsafe copy(second) }
  }

  private func copy(_ part: AnswerPart) throws(ResolutionError) {
    let start = unsafe part.range.start &- region.range.start &- UInt(bitPattern: range.lowerBound)
    let target = unsafe UnsafeMutableRawBufferPointer(rebasing: destination[Int(bitPattern: start)...])
    let count = unsafe part.range.byteCount
    guard case .bytes(let source, _) = unsafe part.content else {
      unsafe target.prefix(count).initializeMemory(as: UInt8.self, repeating: 0)
      return
    }
    if unsafe cuffd_copy_if_readable(target.baseAddress!, source, count) < 0 { throw .refused(.badAddress) }
  }

  /// Waits for the answer, at most as long as the region's timeout. Returns false if the time is up; a late answer
  /// is dropped then.
  func wait() -> Bool {
    let patience = region.timeout == 0 ? 5_000_000_000 : region.timeout
    while !done.wait(nanoseconds: patience) {
      if region.timeout != 0, permit.withdraw() { return false }
    }
    return true
  }
}

extension UnsafeMutableRawBufferPointer {
  fileprivate func prefix(_ count: Int) -> UnsafeMutableRawBufferPointer {
    unsafe UnsafeMutableRawBufferPointer(rebasing: self[..<count])
  }
}
