/// Random numbers that follow from a seed (SplitMix64).
struct StressRandom: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: UInt64) { state = seed }

  /// Creates a generator for one part of the work. Its numbers depend on nothing but the arguments.
  init(_ seed: UInt64, _ part: UInt64, _ number: UInt64 = 0) {
    var first = StressRandom(seed ^ part &* 0x9e37_79b9_7f4a_7c15)
    var second = StressRandom(first.next() ^ number &* 0xd134_2543_de82_ef95)
    state = second.next()
  }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var x = state
    x = (x ^ (x >> 30)) &* 0xbf58_476d_1ce4_e5b9
    x = (x ^ (x >> 27)) &* 0x94d0_49bb_1331_11eb
    return x ^ (x >> 31)
  }

  /// Returns true in `count` of a hundred cases.
  mutating func percent(_ count: UInt64) -> Bool { next() % 100 < count }

  /// Returns one of the elements.
  mutating func among<Element>(_ elements: [Element]) -> Element {
    elements[Int(next() % UInt64(elements.count))]
  }

  /// Returns a number of a closed range.
  mutating func within(_ range: ClosedRange<Int>) -> Int {
    range.lowerBound + Int(next() % UInt64(range.count))
  }
}
