@testable import FaultRuntime

private let pageSize = PageSize.ofHost()

/// A server that serves nothing.
final class NoServer: FaultServer {
  /// The servers of the regions, so that there are two groups.
  static let both = [NoServer(), NoServer()]

  var group: ObjectIdentifier { ObjectIdentifier(self) }
  func serve(_ fault: PendingFault, of region: Region, signal: CInt, _ nesting: FaultNesting) -> Bool { false }
}

/// Makes a region that no delivery serves. No thread touches its memory.
func makeRegion(
  pages: Int, cut: Int, size: RequestSize, advice: RegionOptions.Advice, server: NoServer = NoServer.both[0],
  answer: @escaping @Sendable (PageRequest, inout PageBuffer) throws -> PageContents = { _, _ in .zero }
) -> Region {
  do {
    return try Region(
      fuzzing: ClosureProvider(requestSize: size, answer), byteCount: pages * pageSize.bytes - cut,
      options: RegionOptions(advice: advice), server: server)
  } catch {
    fatalError("cannot map: \(error)")
  }
}

extension FuzzInput {
  mutating func region(
    answer: @escaping @Sendable (PageRequest, inout PageBuffer) throws -> PageContents = { _, _ in .zero }
  ) -> Region {
    let preferred = 1 + below(8 * pageSize.bytes)
    return makeRegion(
      pages: 1 + below(64), cut: below(pageSize.bytes),
      size: RequestSize(preferred: preferred, largest: 1 + below(65536)),
      advice: RegionOptions.Advice.allCases[below(3)], server: NoServer.both[below(2)], answer: answer)
  }
}

/// Serves faults at arbitrary places as a handler does, up to the call of the provider.
func checkRuns(_ input: inout FuzzInput) {
  if input.byte() < 16 { return checkRegion(&input) }
  let table = RegionTable<Region>()
  let regions = (0...input.below(3)).map { _ in input.region() }
  for region in regions { table.insert(region) }
  while !input.isEmpty {
    var batch = FaultBatch(capacity: 16)
    for _ in 0...input.below(16) {
      let choice = input.below(regions.count + 1)
      // An arbitrary page, or one that is in a region or just after it.
      let page =
        choice < regions.count
        ? regions[choice].range.start &+ UInt(input.below(66) * pageSize.bytes)
        : pageSize.pageStart(of: UInt(input.number(UInt64.self)))
      batch.insert(PendingFault(page: page, isWrite: input.bool()))
    }
    serve(batch, table, regions, &input)
    checkTable(table, regions, &input)
  }
  for region in regions { table.remove(region) }
  require(table.count == 0, "a region is left")
}

private func serve(
  _ batch: borrowing FaultBatch, _ table: RegionTable<Region>, _ regions: [Region], _ input: inout FuzzInput
) {
  var lookup = RegionLookup(table)
  var index = 0
  while index < batch.count {
    let fault = batch[index]
    let region = lookup.region(containing: fault.page)
    require(
      region === regions.first { fault.page >= $0.range.start && fault.page < $0.range.end }, "the wrong region")
    guard let region else {
      index += 1
      continue
    }
    var run = FaultRun(region: region, fault: fault, index: index)
    index += 1
    while index < batch.count, run.absorb(batch[index]) { index += 1 }
    check(run, batch)
    run.widen()
    checkWidened(run)
    if input.byte() < 32 { run.shrinkNext(at: run.start + input.below(64) * pageSize.bytes) }
  }
}

/// Checks that a run covers the units of its faults and nothing else, and that it took every fault that belongs to
/// it.
private func check(_ run: borrowing FaultRun, _ batch: borrowing FaultBatch) {
  let region = run.region
  let unit = region.requestUnit
  let units = run.faults.map { region.offset(of: batch[$0].page) / unit }
  let first = units[0]
  let last = units[units.count - 1]
  require(run.start == first * unit, "a run starts at \(run.start), with units of \(unit)")
  require(run.neededEnd == min((last + 1) * unit, region.range.byteCount), "a run ends at \(run.neededEnd)")
  require(run.end == run.neededEnd, "a run was widened by itself")
  require(zip(units, units.dropFirst()).allSatisfy { $1 - $0 <= 1 }, "a run has a gap")
  require(run.end - run.start <= region.largestRequest, "a run of \(run.end - run.start) bytes is too large")
  guard run.faults.upperBound < batch.count else { return }
  let next = batch[run.faults.upperBound].page
  guard region.range.contains(next) else { return }
  let nextUnit = region.offset(of: next) / unit
  require(
    nextUnit > last + 1 || (nextUnit - first + 1) * unit > region.largestRequest, "a fault was left out of its run")
}

private func checkWidened(_ run: borrowing FaultRun) {
  let region = run.region
  require(run.neededEnd <= run.end && run.end <= region.range.byteCount, "a run ends at \(run.end)")
  require(
    run.end == run.neededEnd || run.end - run.start <= region.widestRequest, "\(run.end - run.start) bytes are too wide"
  )
  require(run.end % region.requestUnit == 0 || run.end == region.range.byteCount, "half a unit is asked for")
  let request = run.request
  require(request.offset == run.start && request.byteCount > 0, "\(request) asks for nothing")
  require(request.range.upperBound <= region.byteCount, "\(request) goes beyond the region")
  require(run.range.start == region.range.start &+ UInt(run.start) && run.range.end <= region.range.end, "the range")
}

/// Lent memory may be at any address.
private func checkTable(_ table: RegionTable<Region>, _ regions: [Region], _ input: inout FuzzInput) {
  let group = RegionGroup(table: table, id: regions[0].group)
  var free = FreeMemory(group)
  for _ in 0..<3 {
    let start =
      input.bool() ? UInt(input.number(UInt64.self)) : regions[0].range.start &+ UInt(input.number(UInt16.self))
    let range = AddressRange(start: start, byteCount: Int(input.magnitude() >> 1))
    let (sum, overflow) = start.addingReportingOverflow(UInt(range.byteCount))
    let end = overflow ? UInt.max : sum
    let met = regions.filter { range.byteCount > 0 && $0.range.start < end && start < $0.range.end }
    let meets = !met.isEmpty
    let meetsGroup = met.contains { $0.group == group.id }
    require(table.intersects(range) == meets, "\(range) meets a region: \(meets)")
    require(group.intersects(range) == meetsGroup, "\(range) meets a region of the group: \(meetsGroup)")
    require(free.isLazy(range) == meetsGroup, "\(range) is lazy: \(meetsGroup)")
    let gap = table.gap(around: range)
    require((gap == nil) == meets, "the gap around \(range) is \(String(describing: gap))")
    guard let gap, range.byteCount > 0 else { continue }
    require(!regions.contains { $0.range.start < gap.end && gap.start < $0.range.end }, "\(gap) is no gap")
  }
}

/// Tries sizes that no sensible provider would state.
private func checkRegion(_ input: inout FuzzInput) {
  let preferred = max(1, Int(input.magnitude() >> 1))
  let size = RequestSize(preferred: preferred, largest: Int(bitPattern: UInt(input.magnitude())))
  let byteCount = Int(bitPattern: UInt(input.magnitude()))
  let huge = [0, 1 << 21, 1 << 29][input.below(3)]
  do {
    let region = try Region(
      fuzzing: ClosureProvider(requestSize: size) { _, _ in .zero }, byteCount: byteCount, hugePageByteCount: huge)
    let unit = region.requestUnit
    require(unit >= preferred && unit % pageSize.bytes == 0, "the unit is \(unit)")
    require(
      region.largestRequest >= unit && region.largestRequest % unit == 0, "the largest is \(region.largestRequest)")
    require(region.widestRequest >= unit && region.widestRequest <= region.largestRequest, "the widest")
    require(region.range.byteCount >= byteCount && region.range.byteCount - byteCount < pageSize.bytes, "the length")
    require(region.range.byteCount < huge || huge == 0 || region.range.start % UInt(huge) == 0, "the alignment")
  } catch {
    require(
      [.emptyRegion, .requestTooLarge, .cannotMap].contains(error.code), "mapping \(byteCount) bytes: \(error)")
  }
}

extension Region {
  /// One descriptor for all regions. It reports no faults, because no memory is registered with it.
  static let userfaultfd: SharedUserfaultfd = {
    do {
      return SharedUserfaultfd(try Userfaultfd.open(DescriptorKind.allCases, wanting: []))
    } catch {
      fatalError("no userfaultfd to fuzz with: \(error)")
    }
  }()

  /// Creates a region that no delivery knows.
  convenience init(
    fuzzing provider: some PageProvider, byteCount: Int, options: RegionOptions = RegionOptions(),
    hugePageByteCount: Int = 0, server: NoServer = NoServer.both[0]
  ) throws(FaultRuntimeError) {
    let owner = Self.userfaultfd
    try self.init(
      provider: provider, byteCount: byteCount, options: options, name: "fuzz", pageSize: .ofHost(),
      server: server
    ) { mapped throws(HostCallError) in
      let range = try AddressRange.reservedForRegion(
        byteCount: mapped, alignment: mapped >= hugePageByteCount ? hugePageByteCount : 0, isWritable: true,
        isTaken: { _ in false })
      return AnonymousMemory(range, isWritable: true, pageSize: .ofHost(), userfaultfd: owner)
    }
  }
}
