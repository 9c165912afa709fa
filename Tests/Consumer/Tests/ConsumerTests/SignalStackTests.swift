import FaultRuntime
import Glibc
import Testing

/// Checks in debug and in release how much of an alternate signal stack an answer needs.
@Suite("Small signal stacks", .timeLimit(.minutes(6)))
struct SignalStackTests {
  /// What the provider of a region is, and what happens to a request.
  enum Source: String, CaseIterable, Sendable {
    case zero, memory, file, fileThatFails, closure, closureThatThrows

    /// The byte that each page begins with. The handler of the program puts a page of zeros in place of one that fails.
    var byte: UInt8 { self == .zero || self == .fileThatFails || self == .closureThatThrows ? 0 : 7 }
  }

  private struct NoPage: Error {}

  private static let pages = FaultRuntime.signalStackByteCount / step
  private static let step = 512

  private static func map(_ source: Source, _ delivery: Delivery) throws -> LazyRegion {
    let runtime = try makeRuntime(delivery)
    let byteCount = pages * Host.pageSize
    let bytes = [UInt8](repeating: 7, count: byteCount)
    let options = RegionOptions(advice: .random)
    switch source {
    case .zero: return try runtime.map(ZeroProvider(), byteCount: byteCount, options: options)
    case .memory: return try unsafe runtime.map(MemoryProvider(copying: bytes.span.bytes), options: options)
    case .file, .fileThatFails:
      var path = Array("/tmp/fault-runtime-XXXXXX".utf8CString)
      let file = mkstemp(&path)
      let isWritten = write(file, bytes, byteCount) == byteCount
      try #require(isWritten)
      let provider = try path.withUnsafeBufferPointer { try FileProvider(String(cString: $0.baseAddress!)) }
      unlink(path)
      if source == .fileThatFails { ftruncate(file, 0) }
      return try runtime.map(provider, options: options)
    case .closure, .closureThatThrows:
      return try runtime.map(
        ClosureProvider(permissions: .inMemory) { request, page in
          if source == .closureThatThrows { throw NoPage() }
          page.append(repeating: 7, count: request.byteCount)
          return .filled
        }, byteCount: byteCount, options: options)
    }
  }

  /// Puts a page of zeros in place of a page that has failed.
  private static func mendFailures() {
    var action = sigaction()
    action.__sigaction_handler.sa_sigaction = { _, information, _ in
      let address = UInt(bitPattern: information!.pointee._sifields._sigfault.si_addr)
      let page = UnsafeMutableRawPointer(bitPattern: address & ~UInt(sysconf(Int32(_SC_PAGESIZE)) - 1))
      mmap(page, 1, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
    }
    action.sa_flags = CInt(SA_SIGINFO) | SA_ONSTACK
    for signal in [SIGBUS, SIGSEGV] { sigaction(signal, &action, nil) }
  }

  /// Reads a page with a signal stack of `size` bytes. Returns the byte, and how many bytes have changed right below
  /// the stack; nil where the kernel permits no stack of this size.
  private static func read(_ page: Int, of region: LazyRegion, stack size: Int) -> (byte: UInt8, overwritten: Int)? {
    let room = 2 * FaultRuntime.signalStackByteCount
    let memory = UnsafeMutableRawPointer.allocate(byteCount: room, alignment: 16)
    defer { memory.deallocate() }
    memset(memory, 0xA5, room)
    var stack = stack_t(ss_sp: memory + room - size, ss_flags: 0, ss_size: size)
    guard sigaltstack(&stack, nil) == 0 else { return nil }
    let byte = unsafe region.bytes.unsafeLoad(fromByteOffset: page * Host.pageSize, as: UInt8.self)
    stack.ss_flags = CInt(SS_DISABLE)
    sigaltstack(&stack, nil)
    let below = UnsafeRawBufferPointer(start: memory, count: room - size)
    return (byte, below.count { $0 != 0xA5 })
  }

  private static let deliveries = Host.deliveries.filter { $0 == .sigbus || $0 == .sigsegv }

  @Test(
    "Less room than an answer needs ends the process with a line, and nothing below the stack changes",
    arguments: deliveries, Source.allCases)
  func shrinking(delivery: Delivery, source: Source) async {
    let result = await #expect(processExitsWith: .signal(SIGABRT), observing: [\.standardErrorContent]) {
      [delivery = delivery.rawValue as String, source = source.rawValue as String] in
      signal(SIGABRT, SIG_DFL)
      let source = Source(rawValue: source)!
      Self.mendFailures()
      let region = try Self.map(source, Delivery(rawValue: delivery)!)
      for page in 0..<Self.pages {
        let size = FaultRuntime.signalStackByteCount - page * Self.step
        guard let (byte, overwritten) = Self.read(page, of: region, stack: size) else { exit(3) }
        guard byte == source.byte, overwritten == 0 else { exit(4) }
      }
      exit(5)
    }
    let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
    #expect(text.contains("its alternate signal stack (sigaltstack) has too little room for the answer"))
  }

  #if !DEBUG
    @Test(
      "In a release build the providers of the library need the 4 and 6 KiB that the documentation says",
      arguments: deliveries, [Source.zero, .memory, .file])
    func small(delivery: Delivery, source: Source) async {
      await #expect(processExitsWith: .success) {
        [delivery = delivery.rawValue as String, source = source.rawValue as String] in
        let source = Source(rawValue: source)!
        let region = try Self.map(source, Delivery(rawValue: delivery)!)
        // The frame of the kernel, and that of the handler.
        let frames = sysconf(Int32(_SC_MINSIGSTKSZ)) + 512
        let size = frames + (source == .file ? 6 << 10 : 4 << 10)
        guard let (byte, overwritten) = Self.read(1, of: region, stack: size) else { exit(3) }
        exit(byte == source.byte && overwritten == 0 ? 0 : 4)
      }
    }
  #endif
}
