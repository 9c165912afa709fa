import Archive
import FaultRuntime
import Testing

/// Tests of a program's own providers, as a program would write them.
@Suite("A provider of one's own", .timeLimit(.minutes(1)))
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
}
