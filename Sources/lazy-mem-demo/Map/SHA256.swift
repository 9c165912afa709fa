/// SHA-256 (FIPS 180-4), so that a user can compare what was read through lazy memory with `sha256sum`.
///
/// The command has its own implementation because the packages that offer SHA-256 contain a whole cryptography
/// library, which takes minutes to build. The hashed data is not secret.
struct SHA256 {
  private var state: [UInt32] = [
    0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19,
  ]
  private var schedule = [UInt32](repeating: 0, count: 64)
  private var partial: [UInt8] = []
  private var byteCount: UInt64 = 0

  private static let blockByteCount = 64

  init() {
    partial.reserveCapacity(2 * Self.blockByteCount)
  }

  /// Adds more bytes of the message.
  mutating func update(_ bytes: RawSpan) {
    byteCount += UInt64(bytes.byteCount)
    var offset = 0
    if !partial.isEmpty {
      let taken = min(Self.blockByteCount - partial.count, bytes.byteCount)
      append(bytes.extracting(0..<taken))
      offset = taken
      guard partial.count == Self.blockByteCount else { return }
      compressPartial()
    }
    while bytes.byteCount - offset >= Self.blockByteCount {
      compress(bytes.extracting(offset..<(offset + Self.blockByteCount)))
      offset += Self.blockByteCount
    }
    append(bytes.extracting(offset..<bytes.byteCount))
  }

  /// Returns the digest in hexadecimal, as `sha256sum` prints it.
  consuming func finish() -> String {
    let bitCount = byteCount &* 8
    partial.append(0x80)
    if partial.count > Self.blockByteCount - 8 {
      pad(to: Self.blockByteCount)
      compressPartial()
    }
    pad(to: Self.blockByteCount - 8)
    for shift in stride(from: 56, through: 0, by: -8) {
      partial.append(UInt8(truncatingIfNeeded: bitCount >> UInt64(shift)))
    }
    compressPartial()
    return state.map { word in
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 8 - digits.count) + digits
    }.joined()
  }

  private mutating func append(_ bytes: RawSpan) {
    for index in 0..<bytes.byteCount {
      partial.append(unsafe bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self))
    }
  }

  private mutating func pad(to count: Int) {
    while partial.count < count { partial.append(0) }
  }

  private mutating func compressPartial() {
    let block = partial
    unsafe compress(block.span.bytes)
    partial.removeAll(keepingCapacity: true)
  }

  private mutating func compress(_ block: RawSpan) {
    unsafe schedule.withUnsafeMutableBufferPointer { schedule in
      for index in 0..<16 {
        unsafe schedule[index] = UInt32(
          bigEndian: block.unsafeLoadUnaligned(fromByteOffset: index &* 4, as: UInt32.self))
      }
      for index in 16..<64 {
        let near = unsafe schedule[index &- 15]
        let far = unsafe schedule[index &- 2]
        let small0 = rotate(near, 7) ^ rotate(near, 18) ^ (near &>> 3)
        let small1 = rotate(far, 17) ^ rotate(far, 19) ^ (far &>> 10)
        unsafe schedule[index] = schedule[index &- 16] &+ small0 &+ schedule[index &- 7] &+ small1
      }
    }
    mix()
  }

  private mutating func mix() {
    var (a, b, c, d) = (state[0], state[1], state[2], state[3])
    var (e, f, g, h) = (state[4], state[5], state[6], state[7])
    unsafe schedule.withUnsafeBufferPointer { schedule in
      unsafe Self.constants.withUnsafeBufferPointer { constants in
        for index in 0..<64 {
          let big1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)
          let choice = (e & f) ^ (~e & g)
          let first = unsafe h &+ big1 &+ choice &+ constants[index] &+ schedule[index]
          let big0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)
          let majority = (a & b) ^ (a & c) ^ (b & c)
          h = g
          g = f
          f = e
          e = d &+ first
          d = c
          c = b
          b = a
          a = first &+ big0 &+ majority
        }
      }
    }
    state[0] &+= a
    state[1] &+= b
    state[2] &+= c
    state[3] &+= d
    state[4] &+= e
    state[5] &+= f
    state[6] &+= g
    state[7] &+= h
  }

  private static let constants: [UInt32] = [
    0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
    0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
    0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
    0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
    0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
    0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
    0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
    0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
  ]
}

@inline(__always)
private func rotate(_ word: UInt32, _ count: UInt32) -> UInt32 {
  (word &>> count) | (word &<< (32 &- count))
}
