import Archive
import FaultRuntime
import Glibc
import Testing

@Suite("Errors", .timeLimit(.minutes(6)))
struct ErrorTests {
  private func code(_ body: () throws -> Void) -> FaultRuntimeError.Code? {
    #expect(throws: FaultRuntimeError.self) { try body() }?.code
  }

  @Test("A mistake has its code")
  func codes() throws {
    let runtime = try makeRuntime()
    let region = try runtime.map(Squares(byteCount: 10))
    #expect(code { _ = try runtime.map(ZeroProvider(), byteCount: 0) } == .emptyRegion)
    #expect(code { _ = try region.read(5..<11) } == .rangeOutOfBounds)
    #expect(code { try region.write([0, 0], at: 9) } == .rangeOutOfBounds)
    #expect(code { try region.prefetch(-1..<1) } == .rangeOutOfBounds)
    #expect(code { _ = try FaultRuntime(.init(handlerThreads: 65)) } == .invalidConfiguration)
    #expect(
      code { _ = try FaultRuntime(.init(delivery: .sigsegv, needsSystemCalls: true)) } == .invalidConfiguration)
    let huge = Squares(byteCount: 1 << 40, requestSize: RequestSize(preferred: 1 << 31, largest: 1 << 31))
    #expect(code { _ = try runtime.map(huge) } == .requestTooLarge)
  }

  @Test("An error says what to do in words")
  func words() throws {
    let runtime = try makeRuntime()
    let error = #expect(throws: FaultRuntimeError.self) { try runtime.map(ZeroProvider(), byteCount: 0) }
    let advice = try #require(error?.advice)
    #expect(error.map { "\($0)" }?.hasSuffix(advice) == true)
  }

  @Test("A file that cannot be had says why")
  func files() {
    let missing = #expect(throws: FileProviderError.self) { try FileProvider("/nowhere/at-all") }
    #expect(missing?.code == .cannotOpen)
    #expect(missing?.errno == .noSuchFileOrDirectory)
    for path in ["/proc", "/dev/null"] {
      #expect(#expect(throws: FileProviderError.self) { try FileProvider(path) }?.code == .notARegularFile)
    }
  }

  @Test("A page that cannot be produced is the provider's own error", arguments: Host.deliveries)
  func failure(_ delivery: Delivery) throws {
    let page = Host.pageSize
    let archive = TornArchive(byteCount: 3 * page, torn: page..<(page + 1))
    let region = try makeRuntime(delivery).map(archive, options: RegionOptions(name: "torn"))
    let error = #expect(throws: FaultRuntimeError.self) { try region.read(0..<(3 * page)) }
    #expect(error?.code == .pageFailed)
    let failure = try #require(error?.failure)
    #expect(failure.region == "torn")
    #expect(failure.offset == page)
    #expect(failure.byteCount == page)
    #expect(failure.provider == "\(archive)")
    #expect((failure.cause as? TornArchive.Torn)?.offset == page)
    // The neighbours of the page work, and so does the page itself once the archive is mended.
    #expect(try region.read((2 * page)..<(3 * page)) == [UInt8](repeating: 0xA5, count: page))
    archive.mend()
    #expect(try region.read(0..<(3 * page)) == [UInt8](repeating: 0xA5, count: 3 * page))
  }

  @Test("A touch of it ends the program, which says why first", arguments: Host.deliveries)
  func lastWords(_ delivery: Delivery) async throws {
    let choice = try makeRuntime(delivery).deliveryChoice(for: TornArchive(byteCount: 1))
    let signal = choice.delivery == .sigsegv ? SIGSEGV : SIGBUS
    let name = delivery.rawValue
    let result = await #expect(processExitsWith: .signal(signal), observing: [\.standardErrorContent]) {
      [name = name as String] in
      let runtime = try makeRuntime(Delivery(rawValue: name) ?? .auto)
      let region = try runtime.map(TornArchive(byteCount: 1, torn: 0..<1), options: RegionOptions(name: "torn"))
      exit(CInt(mismatches(region, 0..<1)))
    }
    let output = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(output.contains("'torn'"))
    #expect(output.contains("Torn(offset: 0)"))
  }

  @Test("A hook hears of it before the access fails", arguments: Host.deliveries)
  func hook(_ delivery: Delivery) async throws {
    let name = delivery.rawValue
    await #expect(processExitsWith: .exitCode(33)) { [name = name as String] in
      var configuration = FaultRuntimeConfiguration(delivery: Delivery(rawValue: name) ?? .auto)
      configuration.onFailure = { failure in _exit(failure.cause is TornArchive.Torn ? 33 : 34) }
      let region = try FaultRuntime(configuration).map(TornArchive(byteCount: 1, torn: 0..<1))
      exit(CInt(mismatches(region, 0..<1)))
    }
  }

  @Test("A provider that keeps no rules does not get into the faulting thread")
  func forbidden() throws {
    guard Host.deliveries.contains(.sigbus) else { return }
    let runtime = try makeRuntime(.sigbus)
    let provider = ClosureProvider { _, _ in .zero }
    #expect(code { _ = try runtime.map(provider, byteCount: 1) } == .providerForbidsDelivery)
  }
}
