@testable import FaultRuntime

/// Tries accesses at arbitrary places, in any order and of any width.
func checkStreams(_ input: inout FuzzInput) {
  let streams = AccessStreams()
  var widest = 1
  var next = 0
  while !input.isEmpty {
    // The unit may be beyond an address space. It is often near the last access, because otherwise no access would
    // continue another.
    let unit = input.bool() ? next : input.bool() ? next &+ input.below(64) : Int(input.magnitude() >> 12)
    let count = 1 + input.below(256)
    let largest = 1 + Int(input.magnitude() & 0x3_ffff)
    switch input.below(4) {
    case 0:
      streams.shrink(goingOnAt: next, insteadAt: unit)
    case 1:
      streams.move(goingOnAt: next, to: unit)
    default:
      let window = streams.window(from: unit, count: count, largest: largest)
      require(window >= count && window <= max(count, largest), "\(window) units of \(count) to \(largest)")
      require(window == count || window.nonzeroBitCount == 1, "a window of \(window) units")
      require(window <= max(count, 2 * widest), "from at most \(widest) units to \(window) in one step")
      widest = max(widest, window)
      next = unit + window
    }
    require(next >= 0, "a stream goes on at \(next)")
    if next > 1 << 51 { next = 0 }
  }
  // Whatever happened before, a reader that continues in sequence gets twice as much each time.
  var unit = 1 << 53
  for expected in [1, 2, 4, 8, 16, 32, 64, 64] {
    let window = streams.window(from: unit, count: 1, largest: 100)
    require(window == expected, "\(window) units for a reader who runs on, in place of \(expected)")
    unit += window
  }
}
