import CTestSupport
import CUFFD
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// Tests the wrappers against the kernel. Each row of "what a resolving request answers" is provoked for real.
@Suite("Userfaultfd", .timeLimit(.minutes(6)))
struct UserfaultfdTests {
  private func open(
    _ features: UserfaultfdFeatures = [], _ choice: DescriptorChoice = .automatic
  ) throws -> Userfaultfd {
    try Userfaultfd.open(choice.candidates(servingSystemCalls: false), wanting: features)
  }

  /// Calls `body`, which must throw the described error.
  private func expect(
    _ request: ResolveRequest, _ errno: KernelErrno, completed: Int = 0,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ body: () throws(ResolveError) -> Void
  ) {
    let expected = ResolveError(request: request, errno: errno, completedByteCount: completed)
    #expect(throws: expected, sourceLocation: sourceLocation) { try body() }
  }

  private func source(_ pages: Int, filledWith value: UInt8 = 7) -> Scratch {
    let scratch = Scratch(pages: pages)
    scratch.fill(value)
    return scratch
  }

  // MARK: Opening

  @Test("The descriptor is closed on exec and does not block")
  func flags() throws {
    let uffd = try open()
    #expect(fcntl(uffd.descriptor, F_GETFD) & FD_CLOEXEC != 0)
    #expect(fcntl(uffd.descriptor, F_GETFL) & O_NONBLOCK != 0)
    var buffer = MessageBuffer(capacity: 1)
    try uffd.read(into: &buffer)
    #expect(buffer.count == 0)
  }

  @Test("Every way to a descriptor that the host allows gives that kind", arguments: DescriptorKind.allCases)
  func kinds(kind: DescriptorKind) throws {
    guard Host.shouldAllow(kind) else {
      #expect(throws: Userfaultfd.Unavailable.self) { try Userfaultfd.probeAndClose(kind) }
      return
    }
    let uffd = try open([], .only(kind))
    #expect(uffd.kind == kind)
    #expect(uffd.available.contains(.threadID))
  }

  @Test("Only features that the kernel has are switched on")
  func negotiation() throws {
    let unknown = UserfaultfdFeatures(rawValue: 1 << 50)
    let uffd = try open([.threadID, unknown])
    #expect(uffd.enabled == .threadID)
    #expect(!uffd.available.contains(unknown))
  }

  @Test("Closing gives the descriptor back")
  func closing() async {
    // The process is a new one, in which no other code opens a userfaultfd. Other descriptors may be opened there and
    // get the same number, so the number proves nothing.
    await #expect(processExitsWith: .success) {
      do {
        let uffd = try Userfaultfd.open(DescriptorKind.allCases, wanting: [])
        #expect(fcntl(uffd.descriptor, F_GETFD) >= 0)
        #expect(descriptorKinds()[userfaultfdKind] == 1)
      }
      #expect(descriptorKinds()[userfaultfdKind] == nil)
    }
  }

  // MARK: Registration

  @Test("A registered anonymous range takes the missing-page requests")
  func register() throws {
    let uffd = try open()
    let memory = Scratch(pages: 4)
    let requests = try uffd.register(memory.range, mode: .missing)
    #expect(requests.isSuperset(of: [.wake, .copy, .zeropage]))
    #expect(!requests.contains(.continue))
    #expect(requests.contains(.poison) == uffd.available.contains(.poison))
    try uffd.unregister(memory.range)
  }

  @Test("Registration fails with the kernel's reason")
  func registerFailures() throws {
    let uffd = try open()
    let memory = Scratch(pages: 2)
    var unaligned = memory.page(0)
    unaligned.start += 1
    #expect(throws: UserfaultfdError(call: .register, errno: .invalidArgument)) {
      try uffd.register(unaligned, mode: .missing)
    }
    let other = try open()
    try other.register(memory.range, mode: .missing)
    #expect(throws: UserfaultfdError(call: .register, errno: .resourceBusy)) {
      try uffd.register(memory.range, mode: .missing)
    }
  }

  @Test("Minor faults of anonymous memory cannot be asked for")
  func minorOfAnonymous() throws {
    let uffd = try open()
    let memory = Scratch(pages: 1)
    #expect(throws: UserfaultfdError(call: .register, errno: .invalidArgument)) {
      try uffd.register(memory.range, mode: .minor)
    }
  }

  // MARK: Resolving

  @Test("COPY fills pages from a source of any alignment")
  func copy() throws {
    let uffd = try open()
    let memory = Scratch(pages: 4)
    let bytes = expectedBytes(0..<(2 * pageBytes + 1))
    try uffd.register(memory.range, mode: .missing)
    try unsafe bytes.withUnsafeBytes { raw in
      try unsafe uffd.copy(memory.pages(1..<3), from: raw.baseAddress! + 1)
    }
    #expect(read(memory.page(1).start) == .byte(expectedByte(1)))
    #expect(read(memory.page(2).end - 1) == .byte(expectedByte(2 * pageBytes)))
  }

  @Test("A present page is EEXIST; one in the middle is a partial result")
  func present() throws {
    let uffd = try open()
    let memory = Scratch(pages: 4)
    let source = source(4)
    try uffd.register(memory.range, mode: .missing)
    try unsafe uffd.copy(memory.page(2), from: source.pointer)
    expect(.copy, .fileExists) { () throws(ResolveError) in try unsafe uffd.copy(memory.page(2), from: source.pointer) }
    expect(.zeropage, .fileExists) { () throws(ResolveError) in try uffd.zeropage(memory.page(2)) }
    expect(.copy, .resourceTemporarilyUnavailable, completed: 2 * pageBytes) { () throws(ResolveError) in
      try unsafe uffd.copy(memory.range, from: source.pointer)
    }
  }

  @Test("A source that ends half-way is a partial result, then EFAULT")
  func badSource() throws {
    let uffd = try open()
    let memory = Scratch(pages: 4)
    let hole = source(4)
    #expect(cuffd_protect_none(UInt64(hole.page(2).start), 2 * pageBytes) == 0)
    try uffd.register(memory.range, mode: .missing)
    expect(.copy, .resourceTemporarilyUnavailable, completed: 2 * pageBytes) { () throws(ResolveError) in
      try unsafe uffd.copy(memory.range, from: hole.pointer)
    }
    expect(.copy, .badAddress) { () throws(ResolveError) in
      try unsafe uffd.copy(memory.pages(2..<4), from: hole.pointer + 2 * pageBytes)
    }
  }

  @Test("An unregistered or unmapped destination is ENOENT, a wrong alignment EINVAL")
  func wrongDestination() throws {
    let uffd = try open()
    let memory = Scratch(pages: 2)
    let source = source(2)
    expect(.copy, .noSuchFileOrDirectory) { () throws(ResolveError) in
      try unsafe uffd.copy(memory.page(0), from: source.pointer)
    }
    try uffd.register(memory.range, mode: .missing)
    var unaligned = memory.page(0)
    unaligned.start += 8
    expect(.copy, .invalidArgument) { () throws(ResolveError) in try unsafe uffd.copy(unaligned, from: source.pointer) }
    expect(.zeropage, .invalidArgument) { () throws(ResolveError) in
      try uffd.zeropage(AddressRange(start: memory.range.start, byteCount: 0))
    }
    // The range covers two mappings, although both are registered.
    let split = Scratch(pages: 4)
    try uffd.register(split.range, mode: .missing)
    let second = unsafe UnsafeMutableRawPointer(bitPattern: split.page(1).start)
    #expect(unsafe mprotect(second, pageBytes, PROT_READ) == 0)
    expect(.copy, .noSuchFileOrDirectory) { () throws(ResolveError) in
      try unsafe uffd.copy(split.pages(0..<2), from: source.pointer)
    }
    // The kernel places no mapping this low by itself. A hole made by this test could be filled with memory of
    // another test.
    let unmapped = AddressRange(start: 1 << 20, byteCount: pageBytes)
    expect(.copy, .noSuchFileOrDirectory) { () throws(ResolveError) in
      try unsafe uffd.copy(unmapped, from: source.pointer)
    }
  }

  @Test("ZEROPAGE reads as zero")
  func zeropage() throws {
    let uffd = try open()
    let memory = Scratch(pages: 2)
    try uffd.register(memory.range, mode: .missing)
    try uffd.zeropage(memory.range)
    #expect(read(memory.page(1).start + 5) == .byte(0))
  }

  @Test("POISON makes the access fail, COPY cures it", .enabled(if: Host.features.contains(.poison), SkipReason.poison))
  func poison() throws {
    let uffd = try open(.poison)
    let memory = Scratch(pages: 2)
    let source = source(1)
    try uffd.register(memory.range, mode: .missing)
    try uffd.poison(memory.page(0))
    #expect(read(memory.page(0).start) == .signal(SIGBUS))
    expect(.poison, .fileExists) { () throws(ResolveError) in try uffd.poison(memory.page(0)) }
    expect(.zeropage, .fileExists) { () throws(ResolveError) in try uffd.zeropage(memory.page(0)) }
    // Discarding the page drops the marker, and the page can be missing again.
    #expect(cuffd_discard(UInt64(memory.page(0).start), pageBytes) == 0)
    let address = memory.page(0).start
    let waiting = TestThread { #expect(read(address) == .signal(SIGBUS)) }
    #expect(eventually { waiters(on: uffd.descriptor).unread == 1 })
    // Poisoning a page wakes the threads that wait for it.
    try uffd.poison(memory.page(0))
    #expect(waiting.join())
    try unsafe uffd.copy(memory.page(0), from: source.pointer)
    #expect(read(memory.page(0).start) == .byte(7))
    expect(.poison, .fileExists) { () throws(ResolveError) in try uffd.poison(memory.page(0)) }
  }

  @Test("MOVE takes the page out of its source", .enabled(if: Host.features.contains(.move), SkipReason.move))
  func move() throws {
    let uffd = try open(.move)
    let memory = Scratch(pages: 3)
    let source = Scratch(pages: 2)
    // Another test may fork at any time. Pages that a fork has shared cannot be moved, even after the child has
    // ended.
    let start = unsafe UnsafeMutableRawPointer(bitPattern: source.range.start)
    #expect(unsafe madvise(start, source.range.byteCount, MADV_DONTFORK) == 0)
    source.fill(9)
    try uffd.register(memory.range, mode: .missing)
    try uffd.move(memory.page(0), from: source.range.start)
    #expect(read(memory.page(0).start) == .byte(9))
    #expect(read(source.page(0).start) == .byte(0))
    // A hole in the source is an error, unless the mode allows it.
    let empty = Scratch(pages: 1)
    expect(.move, .noSuchFileOrDirectory) { () throws(ResolveError) in
      try uffd.move(memory.page(1), from: empty.range.start)
    }
    try uffd.move(memory.page(1), from: empty.range.start, mode: .allowSourceHoles)
    // A source that a fork has shared stays shared until it is written again, even after the child has ended.
    let shared = self.source(1)
    #expect(unsafe cts_forked({ _ in 42 }, UnsafeMutableRawPointer(bitPattern: 1)!) == 42)
    expect(.move, .resourceBusy) { () throws(ResolveError) in try uffd.move(memory.page(2), from: shared.range.start) }
    // A source that cannot be written cannot be moved.
    let readOnly = Scratch(pages: 1, writable: false)
    expect(.move, .invalidArgument) { () throws(ResolveError) in
      try uffd.move(memory.page(1), from: readOnly.range.start)
    }
  }

  @Test(
    "CONTINUE maps what the page cache holds",
    .enabled(if: Host.features.contains(.minorShmem), SkipReason.minorShmem))
  func continuing() throws {
    let uffd = try open(.minorShmem)
    var address: UInt = 0
    var alias: UInt = 0
    try #require(unsafe cts_map_memory(CTS_SHMEM, 2 * pageBytes, pageBytes, &address, &alias) == 0)
    defer {
      _ = cuffd_unmap(UInt64(address), 2 * pageBytes)
      _ = cuffd_unmap(UInt64(alias), 2 * pageBytes)
    }
    let first = AddressRange(start: address, byteCount: pageBytes)
    let second = AddressRange(start: address + UInt(pageBytes), byteCount: pageBytes)
    let requests = try uffd.register(AddressRange(start: address, byteCount: 2 * pageBytes), mode: [.missing, .minor])
    #expect(requests.contains(.continue))
    // The page cache is still empty.
    expect(.continue, .badAddress) { () throws(ResolveError) in try uffd.continue(first) }
    #expect(write(5, to: alias) == .byte(5))
    try uffd.continue(first)
    #expect(read(address) == .byte(5))
    expect(.continue, .fileExists) { () throws(ResolveError) in try uffd.continue(first) }
    expect(.continue, .badAddress) { () throws(ResolveError) in try uffd.continue(second) }
  }

  @Test(
    "Write protection reports the write, and lifting it lets the write go on",
    .enabled(if: Host.features.contains(.pagefaultFlagWriteProtect), SkipReason.writeProtect))
  func writeProtection() throws {
    let uffd = try open(.pagefaultFlagWriteProtect)
    let memory = source(2)
    try uffd.register(memory.range, mode: .writeProtect)
    try uffd.writeProtect(memory.page(0), true)
    let start = memory.page(0).start
    let writer = TestThread { #expect(write(3, to: start) == .byte(3)) }
    let message = try nextMessage(of: uffd)
    guard case .pagefault(let address, let flags, _) = message else {
      Issue.record("not a fault: \(message)")
      return
    }
    #expect(address == start)
    #expect(flags.isSuperset(of: [.write, .writeProtect]))
    try uffd.writeProtect(memory.page(0), false)
    #expect(writer.join())
    #expect(read(start) == .byte(3))
  }

  @Test("Write protection of a range that was not registered for it is ENOENT")
  func writeProtectionUnregistered() throws {
    let uffd = try open()
    let memory = Scratch(pages: 1)
    try uffd.register(memory.range, mode: .missing)
    expect(.writeProtect, .noSuchFileOrDirectory) { () throws(ResolveError) in
      try uffd.writeProtect(memory.page(0), true)
    }
    expect(.writeProtect, .invalidArgument) { () throws(ResolveError) in
      try uffd.writeProtect(memory.page(0), true, mode: .doNotWake)
    }
  }

  @Test("A dead process is ESRCH")
  func deadProcess() throws {
    var address: UInt = 0
    let descriptor = unsafe cts_userfaultfd_of_dead_process(&address, 2 * pageBytes)
    try #require(descriptor >= 0)
    let uffd = Userfaultfd(descriptor: descriptor, kind: .userModeOnly, enabled: [], available: [])
    let source = source(1)
    let range = AddressRange(start: address, byteCount: pageBytes)
    expect(.copy, .noSuchProcess) { () throws(ResolveError) in try unsafe uffd.copy(range, from: source.pointer) }
    #expect(throws: UserfaultfdError(call: .register, errno: .noMemory)) { try uffd.register(range, mode: .missing) }
    try uffd.wake(range)
  }

  @Test("While an event is unread, resolving is EAGAIN with nothing done")
  func unreadEvent() throws {
    let uffd = try open(.eventRemove)
    let memory = Scratch(pages: 4)
    let source = source(4)
    try uffd.register(memory.range, mode: .missing)
    let discard = unsafe cts_discard_on_thread(memory.page(3).start, pageBytes)
    #expect(eventually { hasUnreadEvent(uffd.descriptor) })
    expect(.copy, .resourceTemporarilyUnavailable) { () throws(ResolveError) in
      try unsafe uffd.copy(memory.page(0), from: source.pointer)
    }
    expect(.zeropage, .resourceTemporarilyUnavailable) { () throws(ResolveError) in try uffd.zeropage(memory.page(0)) }
    #expect(try nextMessage(of: uffd) == .remove(start: memory.page(3).start, end: memory.page(3).end))
    unsafe cts_join(discard)
    try unsafe uffd.copy(memory.page(0), from: source.pointer)
  }

  // MARK: Messages

  @Test("One read takes as many messages as wait, and as fit")
  func batches() throws {
    let uffd = try open(.threadID)
    let memory = Scratch(pages: 8)
    let source = source(8)
    try uffd.register(memory.range, mode: .missing)
    let threads = (0..<6).map { index in
      let address = memory.page(index).start
      return TestThread { #expect(read(address) == .byte(7)) }
    }
    #expect(eventually { waiters(on: uffd.descriptor).unread == 6 })
    var buffer = MessageBuffer(capacity: 4)
    var pages: Set<UInt> = []
    var ids: Set<UInt32> = []
    for expected in [4, 2, 0] {
      try uffd.read(into: &buffer)
      #expect(buffer.count == expected)
      for index in 0..<buffer.count {
        guard case .pagefault(let address, let flags, let thread) = buffer[index] else { continue }
        #expect(flags == [])
        pages.insert(address)
        ids.insert(thread)
      }
    }
    #expect(pages == Set((0..<6).map { memory.page($0).start }))
    #expect(ids.count == 6)
    try unsafe uffd.copy(memory.range, from: source.pointer)
    for thread in threads { #expect(thread.join()) }
  }

  @Test("A present page wakes nobody by itself; WAKE does, and the thread goes on")
  func wake() throws {
    let uffd = try open()
    let memory = Scratch(pages: 1)
    let source = source(1)
    try uffd.register(memory.range, mode: .missing)
    let address = memory.page(0).start
    let thread = TestThread { #expect(read(address) == .byte(7)) }
    #expect(eventually { waiters(on: uffd.descriptor).unread == 1 })
    try unsafe uffd.copy(memory.page(0), from: source.pointer, mode: .doNotWake)
    expect(.copy, .fileExists) { () throws(ResolveError) in try unsafe uffd.copy(memory.page(0), from: source.pointer) }
    #expect(waiters(on: uffd.descriptor).all == 1)
    try uffd.wake(memory.page(0))
    #expect(thread.join())
  }

  private func nextMessage(of uffd: borrowing Userfaultfd) throws -> FaultMessage {
    var buffer = MessageBuffer(capacity: 1)
    try #require(
      try eventually {
        try uffd.read(into: &buffer)
        return buffer.count == 1
      }, "no message")
    return buffer[0]
  }
}

extension Userfaultfd {
  /// Opens and closes a descriptor, for tests that expect the opening to fail.
  fileprivate static func probeAndClose(_ kind: DescriptorKind) throws(Unavailable) {
    _ = try open([kind], wanting: [])
  }
}
