import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// Tests UFFD_FEATURE_SIGBUS: the faulting thread gets a signal, and the descriptor gets no message.
extension UffdUnitTests {
  @Test("sigbus", arguments: MemoryKind.here)
  func sigbus(kind: MemoryKind) throws {
    let uffd = try Userfaultfd.open(.sigbus)
    let memory = try Memory(mapping: kind, pages: 3)
    let source = filled(kind)
    try uffd.register(memory.range, mode: .missing)
    for index in 0..<2 {
      let page = memory.page(index)
      #expect(read(page.start) == .signal(SIGBUS))
      #expect(write(1, to: page.end - 1) == .signal(SIGBUS))
      #expect(try !uffd.hasMessage())
      try unsafe uffd.copy(page, from: source.pointer)
      #expect(page.holdsOnly(7))
      #expect(write(1, to: page.end - 1) == .byte(1))
    }
    #expect(read(memory.page(2).start) == .signal(SIGBUS))
    try uffd.unregister(memory.range)
    #expect(read(memory.page(2).start) == .byte(0))
  }

  @Test(
    "sigbus-wp", .enabled(if: Host.has(.writeProtectHugetlbfsShmem), SkipReason.writeProtectShmem),
    arguments: MemoryKind.here)
  func sigbusWriteProtected(kind: MemoryKind) throws {
    let uffd = try Userfaultfd.open(.writeProtection(of: kind).union(.sigbus))
    let memory = try Memory(mapping: kind, pages: 2)
    let source = filled(kind)
    try uffd.register(memory.range, mode: [.missing, .writeProtect])
    let page = memory.page(1)
    #expect(write(1, to: page.start) == .signal(SIGBUS))
    try unsafe uffd.copy(page, from: source.pointer, mode: .writeProtected)
    #expect(page.isWriteProtected)
    #expect(page.holdsOnly(7))
    #expect(write(1, to: page.start) == .signal(SIGBUS))
    #expect(try !uffd.hasMessage())
    try uffd.writeProtect(page, false)
    #expect(write(1, to: page.start) == .byte(1))
    #expect(read(memory.page(0).start) == .signal(SIGBUS))
  }

  @Test(
    "sigbus, sigbus-wp: in a child", .enabled(if: Host.has(.writeProtectHugetlbfsShmem), SkipReason.writeProtectShmem),
    .enabled(if: Host.forkEvents, SkipReason.forkEvents), arguments: MemoryKind.here)
  func sigbusInChild(kind: MemoryKind) async {
    await #expect(processExitsWith: .success) { [kind = kind as MemoryKind] in
      limitTime()
      let uffd = try Userfaultfd.open(.writeProtection(of: kind).union([.sigbus, .eventFork]))
      let memory = try Memory(mapping: kind, pages: 2)
      let source = filled(kind)
      try uffd.register(memory.range, mode: [.missing, .writeProtect])
      let forking = Later { Child() }
      let childUffd = try uffd.nextFork()
      let child = try forking.result()
      let page = memory.page(1)
      #expect(child.read(page) == .signal(SIGBUS))
      try childUffd.afterEvent { () throws(ResolveError) in
        try unsafe childUffd.copy(page, from: source.pointer, mode: .writeProtected)
      }
      #expect(child.read(page) == .byte(7))
      #expect(child.write(1, to: page) == .signal(SIGBUS))
      try childUffd.writeProtect(page, false)
      #expect(child.write(1, to: page) == .byte(1))
      // A shared page is in the file now. For a private kind, the parent's page is still missing.
      #expect(read(page.start) == (kind.isShared ? .byte(1) : .signal(SIGBUS)))
      #expect(try !uffd.hasMessage())
      #expect(try !childUffd.hasMessage())
    }
  }
}

/// Returns a source for a copy into one page.
func filled(_ kind: MemoryKind, _ value: UInt8 = 7) -> Memory {
  let source = Memory(.anon, pages: kind.pageBytes / MemoryKind.anon.pageBytes)
  source.range.fill(value)
  return source
}
