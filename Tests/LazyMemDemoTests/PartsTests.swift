import TestSupport
import Testing

@testable import lazy_mem_demo

@Suite("Parts of the demo", .timeLimit(.minutes(6)))
struct PartsTests {
  private func sum(_ bytes: [UInt8], pieces: Int) -> String {
    var hash = SHA256()
    var offset = 0
    while offset < bytes.count {
      let end = min(offset + pieces, bytes.count)
      let piece = Array(bytes[offset..<end])
      unsafe hash.update(piece.span.bytes)
      offset = end
    }
    return hash.finish()
  }

  @Test(
    "SHA-256 of the published examples",
    arguments: [
      ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
      ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
      (
        "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
      ),
    ])
  func examples(message: String, digest: String) {
    #expect(sum(Array(message.utf8), pieces: 1000) == digest)
  }

  @Test("SHA-256 does not depend on the pieces", arguments: [1, 3, 63, 64, 65, 1000])
  func pieces(pieces: Int) {
    let message = (0..<10_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
    #expect(sum(message, pieces: pieces) == sum(message, pieces: 10_000))
    // The million times "a" of FIPS 180-4, in pieces that cross every padding boundary.
    if pieces == 1000 {
      #expect(
        sum([UInt8](repeating: 0x61, count: 1_000_000), pieces: 4001)
          == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")
    }
  }

  @Test("A permutation has every number once", arguments: [1, 2, 3, 7, 64, 1000, 4097])
  func permutation(count: Int) {
    let permutation = Permutation(count: count)
    let numbers = (0..<count).map { permutation[$0] }
    #expect(numbers.sorted() == Array(0..<count))
    if count >= 64 { #expect(numbers != Array(0..<count)) }
  }
}
