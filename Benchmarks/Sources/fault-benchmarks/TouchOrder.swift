import CBenchmarkSupport

/// A small generator with a fixed seed, so that every run touches the same pages in the same order.
struct FixedGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  // SplitMix64 (Steele, Lea, Flood 2014).
  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var word = state
    word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
    word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
    return word ^ (word >> 31)
  }
}

/// The pages to touch, and the bytes that they must hold.
struct TouchOrder: Sendable {
  /// The numbers of the units, in the order in which they are touched.
  var units: [UInt32]
  /// The distance from one unit to the next, in bytes.
  var stride: Int
  /// Determines the byte that unit N is filled with; see `support_pattern`.
  var multiplier: UInt8

  /// Touches all of `count` units in turn.
  init(sequential count: Int, stride: Int, multiplier: UInt8) {
    units = Array(0..<UInt32(count))
    self.stride = stride
    self.multiplier = multiplier
  }

  /// Touches all of `count` units in shuffled order.
  init(shuffling count: Int, stride: Int, multiplier: UInt8) {
    var generator = FixedGenerator(seed: 0x5eed)
    units = (0..<UInt32(count)).shuffled(using: &generator)
    self.stride = stride
    self.multiplier = multiplier
  }

  /// Touches one unit at a random place in each of `count` equal parts of `total` units.
  init(scattering count: Int, over total: Int, stride: Int, multiplier: UInt8) {
    var generator = FixedGenerator(seed: 0x5eed)
    let part = total / count
    units = (0..<count).map { UInt32($0 * part + Int.random(in: 0..<part, using: &generator)) }
    units.shuffle(using: &generator)
    self.stride = stride
    self.multiplier = multiplier
  }

  /// Touches the units of `range` in turn. If `nanoseconds` is not nil, it has room for the time of each touch.
  /// Allocates nothing.
  ///
  /// - Parameter base: The address of unit 0.
  func touch(
    _ base: UnsafeRawPointer,
    _ range: Range<Int>,
    nanoseconds: UnsafeMutablePointer<UInt64>? = nil
  ) throws(WrongBytes) {
    let wrong = unsafe units.withUnsafeBufferPointer { units in
      unsafe support_touch(
        base,
        stride,
        units.baseAddress! + range.lowerBound,
        range.count,
        multiplier,
        nanoseconds
      )
    }
    if wrong > 0 { throw WrongBytes(count: wrong, touched: range.count) }
  }

  /// A page held other bytes than its provider supplied, so that the measurement is worthless.
  struct WrongBytes: Error, CustomStringConvertible {
    var count: Int
    var touched: Int
    var description: String { "\(count) of \(touched) touched bytes were wrong" }
  }
}
