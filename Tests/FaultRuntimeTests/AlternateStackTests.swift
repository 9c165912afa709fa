import CTestSupport
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

private struct NoPage: Error {}

/// What the provider of a region is, and what happens to a request.
private enum Source: String, CaseIterable, Sendable {
  case zero, memory, file, closure, closureThatThrows, fileThatFails, pool

  /// Whether the provider is one of the library, which needs little of the stack.
  var isShallow: Bool { self != .closure && self != .closureThatThrows }

  /// What a read of a page gives.
  var outcome: CInt {
    switch self {
    case .zero: 0
    case .closureThatThrows, .fileThatFails: -1
    default: 7
    }
  }

  func map(in runtime: FaultRuntime, _ file: TemporaryFile) throws -> LazyRegion {
    let byteCount = Self.pages * pageBytes
    let bytes = [UInt8](repeating: 7, count: byteCount)
    let options = RegionOptions(advice: .random)
    switch self {
    case .zero: return try runtime.map(ZeroProvider(), byteCount: byteCount, options: options)
    case .memory: return unsafe try runtime.map(MemoryProvider(copying: bytes.span.bytes), options: options)
    case .file: return try runtime.map(FileProvider(file.path), options: options)
    case .fileThatFails:
      let provider = try FileProvider(file.path)
      #expect(unsafe Glibc.truncate(file.path, 0) == 0)
      return try runtime.map(provider, options: options)
    case .closure, .pool, .closureThatThrows:
      let throwsError = self == .closureThatThrows
      return try runtime.map(
        ClosureProvider(permissions: self == .pool ? .standard : .inSignalHandler) { request, page in
          if throwsError { throw NoPage() }
          page.append(repeating: 7, count: request.byteCount)
          return .filled
        }, byteCount: byteCount, options: options)
    }
  }

  static let pages = 256
}

@Suite(
  "Alternate signal stacks", .timeLimit(.minutes(6)), .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
struct AlternateStackTests {
  private static let tooSmall = "its alternate signal stack (sigaltstack) has too little room for the answer"

  /// Reads one page after another, each with less room than the one before, and ends the process with the status 0 when
  /// the stack is as small as the kernel permits.
  private static func shrink(_ delivery: Delivery, _ source: Source, by step: Int = 512) throws {
    signal(SIGABRT, SIG_DFL)
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
    let file = try TemporaryFile(bytes: [UInt8](repeating: 7, count: Source.pages * pageBytes))
    let region = try source.map(in: runtime, file)
    let outcome = source.outcome < 0 ? -region.failureSignal : source.outcome
    var page = 0
    for size in stride(from: min(FaultRuntime.signalStackByteCount, 128 * step), to: 0, by: -step) {
      var overwritten = 0
      let result = unsafe cts_read_with_stack(size, false, region.address + UInt(page * pageBytes), &overwritten)
      page += 1
      // The kernel permits no smaller stack.
      if result == -1000 - ENOMEM { exit(0) }
      guard result == outcome, overwritten == 0 else {
        exit(3)
      }
    }
    exit(4)
  }

  @Test(
    "Less room than an answer needs ends the process with a line, and nothing below the stack changes",
    arguments: Delivery.inFaultingThread, Source.allCases)
  private func shrinking(delivery: Delivery, source: Source) async throws {
    // This delivery asks no pool.
    if delivery == .sigbus, source == .pool { return }
    let result = await #expect(
      processExitsWith: .signal(SIGABRT), observing: [\.standardErrorContent]
    ) { [name = delivery.rawValue as String, source = source.rawValue as String] in
      try Self.shrink(Delivery(rawValue: name)!, Source(rawValue: source)!)
    }
    #expect(result.errors.contains(Self.tooSmall))
  }

  @Test(
    "The signal for a page that failed has the room that it needs on its way to the program's handler",
    .enabled(if: Host.features.contains(.poison), SkipReason.poison))
  func shrinkingForEventLoop() async throws {
    let result = await #expect(
      processExitsWith: .signal(SIGABRT), observing: [\.standardErrorContent]
    ) { try Self.shrink(.eventLoop, .closureThatThrows, by: 64) }
    #expect(result.errors.contains(Self.tooSmall))
  }

  /// A stack that is enough for the providers of the library, also in a debug build.
  private static let smallStack = 24 << 10

  @Test(
    "A small stack is enough for the providers of the library", arguments: Delivery.inFaultingThread, Source.allCases)
  private func usual(delivery: Delivery, source: Source) async {
    // The text of an error needs more in a debug build.
    guard source.isShallow, source != .fileThatFails, delivery == .sigsegv || source != .pool else { return }
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String, source = source.rawValue as String] in
      let source = Source(rawValue: source)!
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!))
      let file = try TemporaryFile(bytes: [UInt8](repeating: 7, count: Source.pages * pageBytes))
      let region = try source.map(in: runtime, file)
      var overwritten = 0
      let result = unsafe cts_read_with_stack(Self.smallStack, false, region.address + UInt(pageBytes), &overwritten)
      #expect(result == source.outcome)
      #expect(overwritten == 0)
    }
  }

  /// Maps a region whose provider touches the same page of another region.
  private static func mapNested(
    _ delivery: Delivery, touch: @escaping @Sendable (UInt) -> UInt8
  ) throws -> LazyRegion {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
    let inner = try Source.closure.map(in: runtime, TemporaryFile(bytes: [7]))
    return try runtime.map(
      ClosureProvider(permissions: .inSignalHandler) { request, page in
        page.append(repeating: touch(inner.address &+ UInt(request.offset)), count: request.byteCount)
        return .filled
      }, byteCount: inner.byteCount, options: RegionOptions(advice: .random))
  }

  @Test(
    "A provider that touches lazy memory has the room for that, or the process ends, with SS_AUTODISARM too",
    arguments: Delivery.inFaultingThread, [false, true])
  func nested(delivery: Delivery, isDisarmed: Bool) async {
    let result = await #expect(processExitsWith: .signal(SIGABRT), observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String, isDisarmed = isDisarmed as Bool] in
      signal(SIGABRT, SIG_DFL)
      let outer = try Self.mapNested(Delivery(rawValue: name)!) { cts_load($0) }
      var page = 0
      // Below 24 KiB the first provider alone has too little room.
      for size in stride(from: FaultRuntime.signalStackByteCount, to: 24 << 10, by: -512) {
        var overwritten = 0
        let result = unsafe cts_read_with_stack(
          size, isDisarmed, outer.address + UInt(page * pageBytes), &overwritten)
        page += 1
        guard result == 7, overwritten == 0 else { exit(3) }
      }
      exit(4)
    }
    #expect(result.errors.contains(Self.tooSmall))
  }

  @Test(
    "A provider that has used up most of the stack before it touches lazy memory ends the process with the line",
    arguments: Delivery.inFaultingThread, [false, true])
  func nestedDeep(delivery: Delivery, isDisarmed: Bool) async {
    let result = await #expect(processExitsWith: .signal(SIGABRT), observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String, isDisarmed = isDisarmed as Bool] in
      signal(SIGABRT, SIG_DFL)
      let outer = try Self.mapNested(Delivery(rawValue: name)!) { cts_load_deep($0) }
      var overwritten = 0
      let size = FaultRuntime.signalStackByteCount
      exit(unsafe cts_read_with_stack(size, isDisarmed, outer.address, &overwritten))
    }
    #expect(result.errors.contains(Self.tooSmall))
  }

  // The kernel gives a disarmed stack back only where a handler returns.
  @Test(
    "After a jump out of a fault on a stack with SS_AUTODISARM, the next fault is not taken for one on that stack",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer), arguments: Delivery.inFaultingThread)
  func jumpFromDisarmedStack(delivery: Delivery) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String] in
      final class Memory {
        let bad: LazyRegion
        let good: LazyRegion
        init(_ bad: LazyRegion, _ good: LazyRegion) { (self.bad, self.good) = (bad, good) }
      }
      let delivery = Delivery(rawValue: name)!
      let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
      let bad = try runtime.map(
        ClosureProvider(requestSize: .singlePage, permissions: .inSignalHandler) { _, _ in
          cts_jump_back()
          return .zero
        }, byteCount: pageBytes)
      let memory = Memory(bad, try runtime.map(patternProvider(inFaultingThread: true), byteCount: pageBytes))
      let context = unsafe Unmanaged.passRetained(memory)
      unsafe cts_with_disarmed_stack(
        { context in
          let memory = unsafe Unmanaged<Memory>.fromOpaque(context!).takeUnretainedValue()
          if cts_load_until_jump(memory.bad.address) != -1 { exit(2) }
          if memory.good.access(0) != .byte(expectedByte(0)) { exit(3) }
        }, context.toOpaque())
      unsafe context.release()
    }
  }

  @Test("The notice of the limit of mappings is left to a thread that has room for the program's code")
  func limitNotice() async {
    await #expect(processExitsWith: .success) {
      let notices = Monitor(0)
      var configuration = FaultRuntimeConfiguration(
        delivery: .sigsegv, onNotice: { _ in notices.withLock { $0 += 1 } })
      configuration.mappingLimit = 6
      configuration.guardsPages = false
      let region = try FaultRuntime(configuration).map(
        ZeroProvider(), byteCount: 16 * pageBytes, options: RegionOptions(advice: .random))
      #expect(region.access(pageBytes) == .byte(0))
      #expect(notices.withLock { $0 } == 0)
      // This leaves room for an answer, and not for a hook.
      let size = cts_signal_frame() + (18 << 10)
      var overwritten = 0
      #expect(unsafe cts_read_with_stack(size, false, region.address + UInt(5 * pageBytes), &overwritten) == 0)
      #expect(overwritten == 0)
      #expect(region.isResident(3 * pageBytes), "the region is not at the limit")
      #expect(notices.withLock { $0 } == 0)
      #expect(region.access(9 * pageBytes) == .byte(0))
      #expect(notices.withLock { $0 } == 1)
    }
  }

  @Test("A hook for failures has the room that it needs, or the process ends", arguments: Delivery.inFaultingThread)
  func hook(delivery: Delivery) async {
    let result = await #expect(processExitsWith: .signal(SIGABRT), observing: [\.standardErrorContent]) {
      [name = delivery.rawValue as String] in
      signal(SIGABRT, SIG_DFL)
      var configuration = FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!)
      configuration.onFailure = { print($0) }
      let runtime = try FaultRuntime(configuration)
      let file = try TemporaryFile(bytes: [UInt8](repeating: 7, count: Source.pages * pageBytes))
      let region = try Source.fileThatFails.map(in: runtime, file)
      var overwritten = 0
      exit(unsafe cts_read_with_stack(Self.smallStack, false, region.address, &overwritten))
    }
    #expect(result.errors.contains(Self.tooSmall))
  }
}
