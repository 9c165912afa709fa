import CStressSupport
import FaultRuntime
import Glibc

/// The calls that throw an error instead of raising a signal.
extension StressWorker {
  /// Brings pages in. If `holds` is true, other threads cannot discard pages meanwhile, so the pages must be readable
  /// afterwards.
  func prefetch(_ region: StressRegion, _ range: Range<Int>, _ doing: StressOperation, holds: Bool) {
    if holds { region.model.gate.enter() }
    defer { if holds { region.model.gate.leave() } }
    let before = region.model.states(of: range)
    do {
      if doing == .populate {
        try region.region.populate()
      } else {
        try region.region.prefetch(range)
      }
    } catch {
      region.judge(error, range, before: before, doing)
      return
    }
    guard holds else { return }
    for page in region.model.pages(of: range) {
      var byte: UInt8 = 0
      let signal = unsafe cstress_read(region.address + UInt(page * region.model.pageSize), &byte, 1)
      if signal != 0, !region.isClosing {
        run.tally.mismatch("\(doing): signal \(signal) from a page that was brought; \(region.model.describe(page))")
      }
    }
  }

  func retry(_ region: StressRegion, _ range: Range<Int>) {
    let before = region.model.states(of: range)
    do {
      try region.region.retry(range)
    } catch {
      region.judge(error, range, before: before, .retry)
    }
  }

  func withResident(_ region: StressRegion, _ range: Range<Int>) {
    region.model.gate.enter()
    defer { region.model.gate.leave() }
    let before = region.model.states(of: range)
    do {
      let (signal, bytes) = try unsafe region.region.withUnsafeResident(range) { buffer in
        var copy = [UInt8](repeating: 0, count: buffer.count)
        let signal = unsafe cstress_read(UInt(bitPattern: buffer.baseAddress), &copy, copy.count)
        return (signal, copy)
      }
      // Closing waits for threads inside the closure, so a signal is never allowed here.
      if signal != 0 { run.tally.mismatch("withResident: signal \(signal) of \(range); \(region.model.plan.name)") }
      if signal == 0 { region.judge(bytes, at: range.lowerBound, before: before, .withResident) }
    } catch {
      region.judge(error, range, before: before, .withResident)
    }
  }

  func withMutableResident(_ region: StressRegion, _ draw: Draw) {
    guard region.model.plan.options.access == .readWrite else { return }
    let page = draw.pages(of: region, atMost: 1).lowerBound
    guard let parts = parts(region, page, draw.third) else { return }
    region.model.gate.enter()
    defer { region.model.gate.leave() }
    let before = region.model.states(of: parts.range)
    region.model.take(page)
    var mask: UInt64 = 0
    defer { region.model.release(page, wrote: mask) }
    do {
      let bytes = written(region, parts.range)
      let signal = try unsafe region.region.withUnsafeMutableResident(parts.range) { buffer in
        unsafe cstress_write(UInt(bitPattern: buffer.baseAddress), bytes, bytes.count)
      }
      if signal == 0 {
        mask = parts.mask
      } else {
        run.tally.mismatch("withMutableResident: signal \(signal); \(region.model.describe(page))")
      }
    } catch {
      region.judge(error, parts.range, before: before, .withMutableResident)
    }
  }

  func readCopy(_ region: StressRegion, _ range: Range<Int>) {
    region.model.gate.enter()
    defer { region.model.gate.leave() }
    let before = region.model.states(of: range)
    do {
      let bytes = try region.region.read(range)
      if bytes.count != range.count { run.tally.mismatch("readCopy: \(bytes.count) bytes for \(range)") }
      region.judge(bytes, at: range.lowerBound, before: before, .readCopy)
    } catch {
      region.judge(error, range, before: before, .readCopy)
    }
  }

  /// Writes to the end of a page and the start of the next one, if there is a next one.
  func writeCopy(_ region: StressRegion, _ draw: Draw) {
    guard region.model.plan.options.access == .readWrite, region.model.gate.tryClose() else { return }
    defer { region.model.gate.open() }
    let pages = draw.pages(of: region, atMost: 2)
    let part = region.model.pageSize / 64
    let start = pages.lowerBound * region.model.pageSize + Int((draw.third >> 8) % 64) * part
    let whole = region.clipped(pages).upperBound / part * part
    guard start < whole else { return }
    let end = min(whole, start + (1 + Int((draw.third >> 16) % 64)) * part)
    let touched = region.model.pages(of: start..<end)
    let before = region.model.states(of: start..<end)
    for page in touched { region.model.take(page) }
    var isWritten = false
    do {
      try region.region.write(written(region, start..<end), at: start)
      isWritten = true
    } catch {
      region.judge(error, start..<end, before: before, .writeCopy)
    }
    for page in touched {
      let own = (start..<end).clamped(to: region.clipped(page..<(page + 1)))
      let first = (own.lowerBound - page * region.model.pageSize) / part
      let count = own.count / part
      let ones: UInt64 = count == 64 ? .max : (1 << UInt64(count)) - 1
      region.model.release(page, wrote: isWritten ? ones << UInt64(first) : 0)
    }
  }

  func forEachPiece(_ region: StressRegion, _ draw: Draw) {
    let range = draw.bytes(of: region, atMost: 48)
    region.model.gate.enter()
    defer { region.model.gate.leave() }
    let before = region.model.states(of: range)
    let first = range.lowerBound / region.model.pageSize
    var next = range.lowerBound
    do {
      try unsafe region.region.forEachUnsafePiece(
        of: range, byteCount: 1 + Int(draw.second >> 8) % (20 * region.model.pageSize)
      ) {
        bytes, offset in
        if offset != next { run.tally.mismatch("forEachPiece: a piece at \(offset) instead of \(next)") }
        next = offset + bytes.count
        let known = Array(before[(offset / region.model.pageSize - first)...])
        region.judge(unsafe Array(bytes), at: offset, before: known, .forEachPiece)
      }
      if next != range.upperBound { run.tally.mismatch("forEachPiece: ended at \(next) of \(range)") }
    } catch {
      region.judge(error, range, before: before, .forEachPiece)
    }
  }

  func askFailure(_ region: StressRegion, _ page: Int) {
    let offset = page * region.model.pageSize
    let before = region.model.state(ofPage: page)
    guard let failure = region.region.failure(at: offset + 1) else { return }
    if failure.offset != offset { run.tally.mismatch("failure(at: \(offset)): \(failure)") }
    if before.isThere, region.model.isUnchanged(page, since: before) {
      run.tally.mismatch("failure(at: \(offset)) of a page that is there: \(failure)")
    }
    run.registry.judge(failure, region.model, "failure(at:)")
  }

  func wrongRange(_ region: StressRegion, _ draw: Draw) {
    let count = region.model.plan.byteCount
    let range = draw.third & 1 == 0 ? 0..<(count + 1) : -1..<0
    do {
      if draw.third & 2 == 0 {
        try region.region.prefetch(range)
      } else {
        _ = try region.region.read(range)
      }
      run.tally.mismatch("wrongRange: \(range) of \(count) bytes is accepted")
    } catch {
      if error.code != .rangeOutOfBounds { run.tally.mismatch("wrongRange: \(error)") }
    }
  }

  // MARK: The end

  /// Checks every byte of a region that no other thread uses any more. Every failed page must be curable, unless its
  /// provider always refuses it.
  mutating func checkAll(_ slot: Int) {
    let region = run.region(slot)
    let size = region.model.pageSize
    for page in 0..<region.model.pageCount {
      run.watch.begin(number, .readPages, region: region.number)
      defer { run.watch.end(number) }
      guard readBytes(region, page, 0, size, .readPages) == region.model.plan.runtime.failureSignal else { continue }
      guard region.region.failure(at: page * size) != nil else {
        run.tally.mismatch("at the end: a signal, and no failure is known; \(region.model.describe(page))")
        continue
      }
      cure(region, page)
    }
  }

  private func cure(_ region: StressRegion, _ page: Int) {
    let range = region.clipped(page..<(page + 1))
    // The number of attempts is larger than the trouble of any page. With a timeout, the machine itself may be too
    // slow at times.
    for _ in 0..<100 where !region.model.isNeverGiven(page) {
      let before = region.model.states(of: range)
      do {
        try region.region.retry(range)
        if readBytes(region, page, 0, region.model.pageSize, .retry) != 0 {
          run.tally.mismatch("at the end: retry cures, and the access fails; \(region.model.describe(page))")
        }
        return
      } catch {
        region.judge(error, range, before: before, .retry)
      }
    }
    if !region.model.isNeverGiven(page) {
      run.tally.mismatch("at the end: a page cannot be cured; \(region.model.describe(page))")
    }
  }
}
