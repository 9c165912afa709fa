/// Goes on filling where a sequential reader will be next, while no fault waits. The reader then seldom faults, and the
/// cost of waking a thread is shared by many pages.
struct StreamAhead: ~Copyable {
  /// How many bytes are filled without another fault, which shows that the program still reads on.
  let distance: Int
  private var region: Region?
  private var next = 0
  private var end = 0

  /// The size of a step. It is small because a fault that comes during a step has to wait for its end.
  private static let stepByteCount = 64 << 10

  init(distance: Int) { self.distance = distance }

  var isGoing: Bool { region != nil }

  /// Starts behind a request that had the largest possible size.
  mutating func follow(_ run: borrowing FaultRun) {
    region = run.region
    next = run.end
    end = min(run.end + distance, run.region.range.byteCount)
    if next >= end { stop() }
  }

  mutating func stop() { region = nil }

  /// Makes one step. An error ends the stream, and the first thread that touches the page meets the error again.
  mutating func step(
    _ filler: inout BulkFiller, forbidden: RegionGroup?, counting counter: some FillCounter
  ) {
    guard let region, !region.isClosing else { return stop() }
    let stepEnd = min(next + min(Self.stepByteCount, region.largestRequest), end)
    do {
      let reached = try filler.step(region, from: next, to: stepEnd, forbidden: forbidden, counting: counter)
      region.streams.move(goingOnAt: next / region.requestUnit, to: reached / region.requestUnit)
      next = reached
      if next >= end { stop() }
    } catch {
      stop()
    }
  }
}
