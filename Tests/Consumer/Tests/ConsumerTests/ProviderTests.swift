import Archive
import FaultRuntime
import Testing

/// Tests of a program's own providers, as the program would write them.
@Suite("A provider of one's own", .timeLimit(.minutes(6)))
struct ProviderTests {
  @Test("Every part of it says what the whole says")
  func parts() throws {
    let byteCount = 3 * Host.pageSize + 1
    let expected = (0..<byteCount).map(Squares.byte)
    for requestSize in [RequestSize.singlePage, .standard] {
      let region = try makeRuntime().map(Squares(byteCount: byteCount, requestSize: requestSize))
      #expect(try region.read(0..<byteCount) == expected)
    }
  }

  @Test("What is torn is an error until it is mended")
  func torn() throws {
    let archive = TornArchive(byteCount: 10, torn: 3..<4)
    let region = try makeRuntime().map(archive)
    let error = #expect(throws: FaultRuntimeError.self) { try region.read(0..<10) }
    #expect(error?.failure?.cause is TornArchive.Torn)
    archive.mend()
    #expect(try region.read(0..<10) == [UInt8](repeating: 0xA5, count: 10))
  }

  @Test("A provider is asked without a runtime")
  func unit() throws {
    let squares = Squares(byteCount: 100, requestSize: .singlePage)
    #expect(try squares.bytes(of: PageRequest(offset: 0, byteCount: 4)) == [0, 1, 4, 9])
    var page = PageBuffer(byteCount: 8)
    let contents = try squares.page(PageRequest(offset: 4, byteCount: 4), into: &page)
    #expect(contents.withBytes(in: page) { $0.byteCount } == 4)
    let archive = TornArchive(byteCount: 10, torn: 3..<4)
    #expect(throws: TornArchive.Torn.self) { try archive.bytes(of: PageRequest(offset: 2, byteCount: 4)) }
    #expect(try archive.bytes(of: PageRequest(offset: 4, byteCount: 2)) == [0xA5, 0xA5])
  }

  @Test("A provider that decodes another one's bytes, in pages and by itself")
  func decoding() throws {
    let runLength = 1000
    let encoded = (0..<64).flatMap { [UInt8(truncatingIfNeeded: runLength), UInt8($0 + 1)] }
    let provider = RunLengths(MemoryProvider(copying: encoded), runLength: runLength)
    #expect(try provider.bytes(of: PageRequest(offset: 998, byteCount: 4)) == [1, 1, 2, 2])
    let region = try makeRuntime().map(provider, byteCount: 64 * runLength)
    let bytes = try region.read(0..<(64 * runLength))
    #expect(bytes == (0..<64).flatMap { [UInt8](repeating: UInt8($0 + 1), count: runLength) })
  }

  @Test("A provider that remembers asks another one once, through two regions")
  func caching() throws {
    let archive = TornArchive(byteCount: 2 * Host.pageSize)
    let provider = Cached(archive)
    let runtime = try makeRuntime()
    for _ in 0..<2 {
      let region = try runtime.map(provider, byteCount: 2 * Host.pageSize)
      #expect(try region.read(0..<region.byteCount) == [UInt8](repeating: 0xA5, count: 2 * Host.pageSize))
    }
    #expect(archive.requests == 2)
  }
}
