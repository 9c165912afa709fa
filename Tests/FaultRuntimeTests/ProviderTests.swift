import CTestSupport
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

/// Passes on the answer of another provider for a range that begins elsewhere.
private struct Sliced<Base: PageProvider>: PageProvider {
  let base: Base
  let start: Int
  var permissions: ProviderPermissions { base.permissions }

  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    try page.append(PageRequest(offset: start + request.offset, byteCount: request.byteCount), from: base)
    return .filled
  }
}

/// Fills the buffer, but with at most a page.
private struct Short: PageProvider {
  func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    page.append(expectedBytes(request.range).prefix(pageBytes))
    return .filled
  }
}

@Suite("Providers by themselves", .timeLimit(.minutes(6)))
struct ProviderTests {
  @Test("A wrapper gets the bytes of lent, filled, zero and short answers")
  func wrapping() throws {
    let source = expectedBytes(0..<(6 * pageBytes))
    let range = pageBytes..<(4 * pageBytes)
    let request = PageRequest(offset: 0, byteCount: range.count)
    let lent = Sliced(base: MemoryProvider(copying: source), start: pageBytes)
    #expect(try lent.bytes(of: request) == Array(source[range]))
    #expect(try Sliced(base: patternProvider(), start: pageBytes).bytes(of: request) == Array(source[range]))
    #expect(try Sliced(base: Short(), start: pageBytes).bytes(of: request) == Array(source[range]))
    #expect(try Short().bytes(of: request) == expectedBytes(request.range))
    #expect(try Sliced(base: ZeroProvider(), start: 0).bytes(of: request).allSatisfy { $0 == 0 })

    let runtime = try FaultRuntime(FaultRuntimeConfiguration(onNotice: { _ in }))
    let region = try runtime.map(lent, byteCount: range.count)
    #expect((0..<range.count).allSatisfy { region.access($0) == .byte(source[pageBytes + $0]) })
  }

  @Test("A wrapper gets the errors, and keeps what was appended before")
  func wrappedErrors() throws {
    var page = PageBuffer(byteCount: 3 * pageBytes)
    page.append([1, 2])
    let memory = MemoryProvider(copying: [UInt8](repeating: 3, count: pageBytes))
    #expect(throws: MemoryProvider.OutOfBounds(offset: pageBytes, available: pageBytes)) {
      try page.append(PageRequest(offset: 0, byteCount: 2 * pageBytes), from: memory)
    }
    #expect(throws: ResolutionError.answerTooShort(produced: 0, wanted: 5)) {
      try page.append(PageRequest(offset: 0, byteCount: 5), from: ClosureProvider { _, _ in .filled })
    }
    let long = ClosureProvider { request, page in
      try memory.page(PageRequest(offset: 0, byteCount: request.byteCount + 1), into: &page)
    }
    #expect(throws: ResolutionError.answerTooLong(produced: 6, wanted: 5)) {
      try page.append(PageRequest(offset: 0, byteCount: 5), from: long)
    }
    #expect(page.count == 2)
    let kept = unsafe page.bytes.withUnsafeBytes { unsafe Array($0) }
    #expect(kept == [1, 2])
  }

  @Test("A test sees one answer as it was given")
  func oneAnswer() throws {
    let request = PageRequest(offset: 0, byteCount: 2 * pageBytes)
    var page = PageBuffer(byteCount: request.byteCount)
    let short = try Short().page(request, into: &page)
    #expect(short.kind == .filled)
    #expect(short.withBytes(in: page) { $0.byteCount } == pageBytes)
    var other = PageBuffer(byteCount: request.byteCount)
    let lent = try MemoryProvider(copying: [1, 2, 3]).page(request, into: &other)
    #expect(lent.kind == .lent)
    #expect(ZeroProvider().page(request, into: &other).withBytes(in: other) { $0.byteCount } == request.byteCount)
  }

  @Test("What every append takes is what the buffer has")
  func appends() {
    var page = PageBuffer(byteCount: 64)
    page.append([1, 2])
    page.append([3, 4, 5][1...])
    page.append((6..<8).lazy.map { UInt8($0) })
    page.append(AnySequence([8, 9]))
    page.append(repeating: 10, count: 2)
    let bytes: [UInt8] = [11]
    page.append(bytes.span)
    page.append(with: { unsafe $0.append(12, as: UInt8.self) })
    let appended = unsafe page.bytes.withUnsafeBytes { unsafe Array($0) }
    #expect(appended == [1, 2, 4, 5, 6, 7, 8, 9, 10, 10, 11, 12])
    #expect(page.freeCapacity == 52)
  }

  @Test("A buffer of the provider's own counts as the one it was given")
  func replacedBuffer() throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(onNotice: { _ in }))
    let provider = ClosureProvider(requestSize: .singlePage) { request, page in
      page = PageBuffer(byteCount: request.byteCount)
      page.append(expectedBytes(request.range))
      return .filled
    }
    #expect(try provider.bytes(of: PageRequest(offset: 3, byteCount: 5)) == expectedBytes(3..<8))
    let region = try runtime.map(provider, byteCount: pageBytes)
    #expect(mismatches(in: region) == [])
  }

  @Test("A path with a zero byte is an error, and does not open what is before it")
  func zeroByte() throws {
    let file = try TemporaryFile(bytes: [1])
    let error = #expect(throws: FileProviderError.self) { try FileProvider(file.path + "\0.bak") }
    #expect(error?.code == .invalidPath)
    #expect(error?.description.contains(file.path + "\\0.bak") == true)
  }

  @Test("A name that is not UTF-8 can be opened, and is readable in messages")
  func anyName() throws {
    let name = Array("/tmp/fault-runtime-\(getpid())-".utf8) + [0xff, 0x0a]
    let terminated = name.map { CChar(bitPattern: $0) } + [0]
    let descriptor = unsafe open(terminated, O_CREAT | O_EXCL | O_RDWR, 0o600)
    try #require(descriptor >= 0)
    defer { unsafe unlink(terminated) }
    #expect(unsafe write(descriptor, [7, 8] as [UInt8], 2) == 2)
    close(descriptor)
    let file = try FileProvider(pathBytes: name)
    #expect(file.path.hasSuffix("-\\xff\\x0a"))
    #expect(file.pathBytes == name)
    #expect(try file.bytes(of: PageRequest(offset: 0, byteCount: 2)) == [7, 8])
    #expect(readableText("ä/ö b".utf8) == "ä/ö b")
  }

  @Test("Who says nothing is asked on the pool; the others say what they permit")
  func permissions() throws {
    #expect(Short().permissions == .concurrentRequests)
    #expect(MemoryProvider(copying: []).permissions == .inMemory)
    #expect(ZeroProvider().permissions == [.concurrentRequests, .signalHandler, .handlerThread])
    let file = try TemporaryFile(bytes: [1])
    #expect(try FileProvider(file.path).permissions == [.concurrentRequests, .signalHandler])
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(onNotice: { _ in }))
    let alone = ClosureProvider(permissions: [.signalHandler, .handlerThread]) { _, _ in .zero }
    #expect(runtime.deliveryChoice(for: alone).delivery != .sigbus)
  }
}

@Suite("Providers that are asked by one thread at a time", .timeLimit(.minutes(6)))
struct SerialProviderTests {
  /// Records how many threads call it at the same time.
  private final class Counted: Sendable {
    private let inside = Occupancy()
    let asked = Atomic<Int>(0)
    var mostAtOnce: Int { inside.most }

    func provider(
      _ permissions: ProviderPermissions, largest: Int = 1, before: @escaping @Sendable (PageRequest) -> Void = { _ in }
    ) -> ClosureProvider {
      ClosureProvider(
        requestSize: RequestSize(preferred: 1, largest: largest * pageBytes), permissions: permissions
      ) { [self] request, page in
        inside.enter()
        defer { inside.leave() }
        asked.wrappingAdd(1, ordering: .relaxed)
        before(request)
        for _ in 0..<50 { sched_yield() }
        page.append(expectedBytes(request.range))
        return .filled
      }
    }
  }

  @Test(
    "Faults, prefetches and pieces", arguments: [Delivery.eventLoop, .sigsegv], [ProviderPermissions(), .handlerThread])
  func everything(delivery: Delivery, permissions: ProviderPermissions) throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery, onNotice: { _ in }))
    let counted = Counted()
    let region = try runtime.map(counted.provider(permissions, largest: 4), byteCount: 96 * pageBytes)
    var threads = (0..<4).map { index in
      TestThread {
        for page in stride(from: index, to: 32, by: 4) {
          #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes)))
        }
      }
    }
    threads.append(TestThread { #expect(throws: Never.self) { try region.prefetch(0..<(48 * pageBytes)) } })
    threads.append(
      TestThread {
        #expect(throws: Never.self) {
          try region.forEachPiece(of: (48 * pageBytes)..<(96 * pageBytes), byteCount: pageBytes) { _, _ in }
        }
      })
    for thread in threads { #expect(thread.join()) }
    #expect(counted.mostAtOnce == 1)
  }

  @Test("A request that was given up counts until it returns, and what waits for it has an end")
  func givenUp() throws {
    let gate = Gate()
    let counted = Counted()
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop, providerThreads: 3))
    let region = try runtime.map(
      counted.provider([]) { if $0.offset == 0 { gate.wait() } }, byteCount: 4 * pageBytes,
      options: RegionOptions(advice: .random, timeout: .milliseconds(100)))
    #expect(region.access(0) == .signal(SIGBUS))
    #expect(region.access(pageBytes) == .signal(SIGBUS))
    #expect(throws: FaultRuntimeError.self) { try region.prefetch((2 * pageBytes)..<(3 * pageBytes)) }
    #expect(counted.asked.load(ordering: .relaxed) == 1)
    gate.open()
    #expect(comes(of: region))
    #expect(counted.mostAtOnce == 1)
  }

  @Test("One that touches its own region is told, and does not wait for itself for ever")
  func ownRegion() throws {
    let place = Atomic<UInt>(0)
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: .eventLoop))
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: []) { request, _ in
        if request.offset == 0 {
          guard case .byte = read(place.load(ordering: .relaxed) + UInt(pageBytes)) else { throw Refused() }
        }
        return .zero
      }, byteCount: 2 * pageBytes)
    place.store(region.address, ordering: .relaxed)
    let toucher = TestThread { #expect(region.access(0) == .signal(SIGBUS)) }
    #expect(toucher.join())
    #expect(region.failures.contains { ($0.cause as? ResolutionError)?.code == .deadlock })
  }
}
