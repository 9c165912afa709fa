import ArgumentParser

/// The order in which pages are touched.
enum TouchOrder: String, CaseIterable, ExpressibleByArgument {
  case sequential, random
}

/// Returns every number below `count` once, in an order that looks random and needs no memory. The generator applies
/// a bijection of the numbers below the next power of two until the result is in the range.
struct Permutation {
  let count: Int
  private let mask: UInt64

  init(count: Int) {
    self.count = count
    var size: UInt64 = 1
    while size < UInt64(count) { size <<= 1 }
    mask = size - 1
  }

  /// Returns the `index`-th number.
  subscript(index: Int) -> Int {
    var value = UInt64(index)
    repeat {
      // Each line is a bijection of the numbers below the power of two, and so is their composition.
      value = (value &* 0x9e37_79b9_7f4a_7c15 &+ 0x1656_67b1_9e37_79f9) & mask
      value ^= value >> 7
      value = (value &* 0xbf58_476d_1ce4_e5b9) & mask
      value ^= value >> 11
    } while value >= UInt64(count)
    return Int(value)
  }
}
