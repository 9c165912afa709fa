/// Neighbouring faults of one region that become one request: the units around them, without a gap.
struct FaultRun {
  let region: Region
  /// What is requested, as offsets of the region: whole units, clipped to the mapping.
  private(set) var start: Int
  private(set) var end: Int
  /// The offset at which the units end that threads wait for. Everything behind it was added because accesses run on,
  /// which means that they continue in order.
  private(set) var neededEnd: Int
  /// The faults in the run, as indices into the batch.
  private(set) var faults: Range<Int>

  @inline(__always)
  init(region: consuming Region, fault: PendingFault, index: Int) {
    self.region = region
    let offset = self.region.offset(of: fault.page)
    let unit = self.region.requestUnit
    start = offset - offset % unit
    end = min(start + unit, self.region.range.byteCount)
    neededEnd = end
    faults = index..<(index + 1)
  }

  /// Adds the next fault to the run if it belongs to the same request.
  @inline(__always)
  mutating func absorb(_ fault: PendingFault) -> Bool {
    guard region.range.contains(fault.page), fault.kind == .missing else { return false }
    let offset = region.offset(of: fault.page)
    let unitStart = offset - offset % region.requestUnit
    guard unitStart <= end else { return false }
    let newEnd = max(end, min(unitStart + region.requestUnit, region.range.byteCount))
    guard newEnd - start <= region.largestRequest else { return false }
    end = newEnd
    neededEnd = newEnd
    faults = faults.lowerBound..<(faults.upperBound + 1)
    return true
  }

  /// Widens the request if accesses run on. The caller calls this once, after all faults have been added.
  @inline(__always)
  mutating func widen() {
    let unit = region.requestUnit
    guard neededEnd - start < region.widestRequest, region.advice != .random else { return }
    let largest = region.widestRequest / unit
    let needed = (neededEnd - start + unit - 1) / unit
    let wanted =
      region.advice == .sequential
      ? largest : region.streams.window(from: start / unit, count: needed, largest: largest)
    end = min(start + wanted * unit, region.range.byteCount)
  }

  /// Makes the next request small again, because this one met pages at `offset` that are already there or could not
  /// be produced.
  func shrinkNext(at offset: Int) {
    let unit = region.requestUnit
    region.streams.shrink(goingOnAt: (end + unit - 1) / unit, insteadAt: (offset + unit - 1) / unit)
  }

  var isWidened: Bool { end > neededEnd }

  /// Whether accesses have run on for so long that the request has its largest size.
  var isWidest: Bool { isWidened && end - start >= region.widestRequest }

  /// Whether no thread waits at `address` or behind it. Only the part that was added because accesses run on is left
  /// then.
  func isBeyondNeed(_ address: UInt) -> Bool { isWidened && region.offset(of: address) >= neededEnd }

  /// Makes a run of pages whose faults, if there are any, are kept elsewhere.
  init(region: Region, from start: Int, to end: Int, neededEnd: Int? = nil) {
    self.region = region
    self.start = start
    self.end = end
    self.neededEnd = neededEnd ?? end
    faults = 0..<0
  }

  /// Makes a run of only the page of `fault`.
  init(region: consuming Region, onlyPageOf fault: PendingFault, index: Int) {
    self.init(region: region, fault: fault, index: index)
    keepOnlyPage(of: fault)
  }

  /// Reduces the run to the page of its only fault.
  mutating func keepOnlyPage(of fault: PendingFault) {
    start = region.offset(of: fault.page)
    end = start + region.pageSize.bytes
    neededEnd = end
  }

  var isOnePage: Bool { end - start == region.pageSize.bytes }

  /// The range that the provider is asked for: the run without the part behind the exact end of the region.
  @inline(__always)
  var request: PageRequest {
    PageRequest(offset: start, byteCount: min(end, region.byteCount) - start)
  }

  @inline(__always)
  var range: AddressRange { AddressRange(start: region.range.start &+ UInt(bitPattern: start), byteCount: end - start) }
}
