import CStressSupport
import FaultRuntime
import Glibc

/// The operations of one thread. They follow from the seed and the thread's number alone.
struct StressWorker {
  let run: StressRun
  let number: Int
  private var random: StressRandom

  init(_ run: StressRun, number: Int) {
    self.run = run
    self.number = number
    random = StressRandom(run.settings.seed, 1, UInt64(number))
  }

  /// The random numbers of one operation. Every operation draws the same number of them, so that it does not
  /// influence the next one.
  struct Draw {
    var first: UInt64
    var second: UInt64
    var third: UInt64

    /// Returns a page and some pages after it.
    func pages(of region: StressRegion, atMost count: Int) -> Range<Int> {
      let start = Int(first % UInt64(region.model.pageCount))
      let length = 1 + Int(second % UInt64(count))
      return start..<min(start + length, region.model.pageCount)
    }

    /// Returns a range of bytes within some pages.
    func bytes(of region: StressRegion, atMost count: Int) -> Range<Int> {
      let whole = region.clipped(pages(of: region, atMost: count))
      let start = whole.lowerBound + Int((third >> 8) % UInt64(min(whole.count, region.model.pageSize)))
      let cut = Int((third >> 32) % UInt64(min(whole.upperBound - start, region.model.pageSize)))
      return third & 1 == 0 ? whole : start..<(whole.upperBound - cut)
    }
  }

  mutating func step() {
    let operation = StressOperation.chosen(by: random.next())
    let slot = Int(random.next() % UInt64(StressRun.slotCount))
    let draw = Draw(first: random.next(), second: random.next(), third: random.next())
    let region = run.region(slot)
    run.watch.begin(number, operation, region: region.number)
    perform(operation, slot, on: region, draw)
    run.tally.count(operation)
    run.watch.end(number)
  }

  private func perform(_ operation: StressOperation, _ slot: Int, on region: StressRegion, _ draw: Draw) {
    switch operation {
    case .reopen:
      run.reopen(slot, closesByHand: draw.third & 1 == 0) { new in
        // Huge pages can be moved in only while no page is present, so large regions are always populated here.
        guard new.model.plan.byteCount >= 2 << 20 || draw.third & 6 == 0 else { return }
        prefetch(new, 0..<new.model.plan.byteCount, .populate, holds: true)
      }
    case .newRuntime: run.replaceRuntime(Int(draw.first % UInt64(StressRuntimeKind.allCases.count)))
    case .ticks, .cancel, .jump, .stuck, .protect, .move, .forkAndMap:
      StressNeighbours(run: run, doing: operation, draw: draw).perform()
    default: perform(operation, on: region, draw)
    }
  }

  private func perform(_ operation: StressOperation, on region: StressRegion, _ draw: Draw) {
    switch operation {
    case .read: read(region, draw.pages(of: region, atMost: 1).lowerBound, draw.third)
    case .readPages: readPages(region, draw.pages(of: region, atMost: 32))
    case .write: write(region, draw)
    case .discard: discard(region, draw)
    case .prefetch: prefetch(region, draw.bytes(of: region, atMost: 64), .prefetch, holds: draw.third & 2 == 0)
    case .populate: prefetch(region, 0..<region.model.plan.byteCount, .populate, holds: draw.third & 2 == 0)
    case .retry: retry(region, draw.bytes(of: region, atMost: 64))
    case .withResident: withResident(region, draw.bytes(of: region, atMost: 16))
    case .withMutableResident: withMutableResident(region, draw)
    case .readCopy: readCopy(region, draw.bytes(of: region, atMost: 32))
    case .writeCopy: writeCopy(region, draw)
    case .forEachPiece: forEachPiece(region, draw)
    case .failure: askFailure(region, draw.pages(of: region, atMost: 1).lowerBound)
    case .wrongRange: wrongRange(region, draw)
    case .forkAndTouch: fork(region, draw, CSTRESS_TOUCH, -SIGSEGV, operation)
    case .forkAndExit: fork(region, draw, CSTRESS_EXIT, 0, operation)
    case .forkAndExecute: fork(region, draw, CSTRESS_EXECUTE, 0, operation)
    case .reopen, .newRuntime, .ticks, .cancel, .jump, .stuck, .protect, .move, .forkAndMap: break
    }
  }

  // MARK: Raw accesses

  /// Reads a word, or a whole page including what lies after the end of the region.
  private func read(_ region: StressRegion, _ page: Int, _ choice: UInt64) {
    let size = region.model.pageSize
    let isWhole = choice % 8 == 0
    let place = isWhole ? 0 : Int((choice >> 8) % UInt64(size / 8)) * 8
    readBytes(region, page, place, isWhole ? size : 8, .read)
  }

  private func readPages(_ region: StressRegion, _ pages: Range<Int>) {
    for page in pages { readBytes(region, page, 0, region.model.pageSize, .readPages) }
  }

  @discardableResult
  func readBytes(_ region: StressRegion, _ page: Int, _ place: Int, _ count: Int, _ doing: StressOperation) -> CInt {
    let offset = page * region.model.pageSize + place
    let wasClosed = region.wasClosed()
    let before = region.model.state(ofPage: page)
    var bytes = [UInt8](repeating: 0, count: count)
    let signal = unsafe cstress_read(region.address + UInt(offset), &bytes, count)
    if region.judge(signal: signal, page: page, before: before, isWrite: false, wasClosed: wasClosed, doing) {
      region.judge(bytes, at: offset, before: [before], doing)
    }
    return signal
  }

  /// Returns a range of one page that can be written, in whole parts of the page. Returns nil if the page has no
  /// whole part.
  func parts(_ region: StressRegion, _ page: Int, _ choice: UInt64) -> (range: Range<Int>, mask: UInt64)? {
    let part = region.model.pageSize / 64
    let there = min(64, (region.model.plan.byteCount - page * region.model.pageSize) / part)
    guard there > 0 else { return nil }
    let first = Int(choice % UInt64(there))
    let count = 1 + Int((choice >> 16) % UInt64(min(4, there - first)))
    let start = page * region.model.pageSize + first * part
    return (start..<(start + count * part), ((1 << UInt64(count)) - 1) << UInt64(first))
  }

  private func write(_ region: StressRegion, _ draw: Draw) {
    let page = draw.pages(of: region, atMost: 1).lowerBound
    guard let parts = parts(region, page, draw.third) else { return }
    let bytes = written(region, parts.range)
    let wasClosed = region.wasClosed()
    let before = region.model.state(ofPage: page)
    region.model.take(page)
    let signal = unsafe cstress_write(region.address + UInt(parts.range.lowerBound), bytes, bytes.count)
    region.model.release(page, wrote: signal == 0 ? parts.mask : 0)
    _ = region.judge(signal: signal, page: page, before: before, isWrite: true, wasClosed: wasClosed, .write)
  }

  /// Returns the bytes that are written to a range, which are always the same.
  func written(_ region: StressRegion, _ range: Range<Int>) -> [UInt8] {
    unsafe [UInt8](unsafeUninitializedCapacity: range.count) { buffer, count in
      unsafe cstress_make(
        region.model.writtenSeed, UInt64(range.lowerBound), buffer.baseAddress!, range.count)
      count = range.count
    }
  }

  private func discard(_ region: StressRegion, _ draw: Draw) {
    // Threads that need pages to stay are not disturbed.
    guard region.model.gate.tryClose() else { return }
    defer { region.model.gate.open() }
    let pages = draw.pages(of: region, atMost: draw.third % 16 == 0 ? 600 : 16)
    for page in pages { region.model.take(page) }
    let size = region.model.pageSize
    let start = unsafe UnsafeMutableRawPointer(bitPattern: region.address + UInt(pages.lowerBound * size))
    if unsafe madvise(start, pages.count * size, CInt(MADV_DONTNEED)) != 0, !region.isClosing {
      run.tally.mismatch("discard: errno \(errno)")
    }
    for page in pages {
      if region.model.plan.runtime.canDiscard {
        if draw.third & 4 == 0 { region.model.arm(page) }
        region.model.releaseDiscarded(page)
      } else {
        region.model.release(page, wrote: 0)
      }
    }
  }

  private func fork(
    _ region: StressRegion, _ draw: Draw, _ kind: cstress_child, _ expected: CInt, _ operation: StressOperation
  ) {
    let offset = Int(draw.first % UInt64(region.model.plan.byteCount))
    let outcome = cstress_fork(kind, region.address + UInt(offset))
    if outcome <= -1000 {
      run.tally.failure("fork refused, errno \(-1000 - outcome)")
    } else if outcome != expected {
      run.tally.mismatch("\(operation): the child ended with \(outcome) instead of \(expected)")
    }
  }
}
