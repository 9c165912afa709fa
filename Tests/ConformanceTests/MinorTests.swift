import CTestSupport
import CUFFD
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// Tests minor faults: the page is in the file, but not in this mapping of the file.
extension UffdUnitTests {
  @Test("minor", .enabled(if: Host.has(.minorShmem), SkipReason.minorShmem), arguments: MemoryKind.sharedHere)
  func minor(kind: MemoryKind) throws {
    let uffd = try Userfaultfd.open(kind.isHuge ? .minorHugetlbfs : .minorShmem)
    let memory = try Memory(mapping: kind, pages: 3)
    #expect(try uffd.register(memory.range, mode: .minor).contains(.continue))
    for index in 0..<3 { memory.aliasPage(index).fill(0x0f) }
    for index in 0..<3 {
      let page = memory.page(index)
      let isWrite = index == 1
      let toucher = Later { isWrite ? write(1, to: page.start) : read(page.start) }
      #expect(try uffd.nextFault(in: page) == (isWrite ? [.minor, .write] : .minor))
      // The handler changes the page before it resolves the fault, and the thread must find the change.
      memory.aliasPage(index).fill(0xf0)
      try uffd.continue(page)
      #expect(try toucher.result() == .byte(isWrite ? 1 : 0xf0))
      #expect(read(page.end - 1) == .byte(0xf0))
      expect(.continue, .fileExists) { () throws(ResolveError) in try uffd.continue(page) }
    }
    // Both mappings show the same page, so a write here appears there.
    #expect(write(3, to: memory.page(2).start) == .byte(3))
    #expect(read(memory.aliasPage(2).start) == .byte(3))
    #expect(try !uffd.hasMessage())
  }

  @Test(
    "minor-wp", .enabled(if: Host.has([.minorShmem, .writeProtectHugetlbfsShmem]), SkipReason.writeProtectShmem),
    arguments: MemoryKind.sharedHere)
  func minorWriteProtected(kind: MemoryKind) throws {
    let uffd = try Userfaultfd.open([
      kind.isHuge ? .minorHugetlbfs : .minorShmem, .pagefaultFlagWriteProtect, .writeProtectHugetlbfsShmem,
    ])
    let memory = try Memory(mapping: kind, pages: 2)
    let requests = try uffd.register(memory.range, mode: [.minor, .writeProtect])
    #expect(requests.isSuperset(of: [.continue, .writeProtect]))
    for index in 0..<2 {
      let page = memory.page(index)
      memory.aliasPage(index).fill(4)
      let reader = Later { read(page.start) }
      #expect(try uffd.nextFault(in: page) == .minor)
      try uffd.continue(page, mode: .writeProtected)
      #expect(try reader.result() == .byte(4))
      #expect(page.isWriteProtected)
      // Readers are not stopped, but a writer waits.
      #expect(page.holdsOnly(4))
      let writer = Later { write(5, to: page.start) }
      #expect(try uffd.nextFault(in: page) == [.write, .writeProtect])
      // The other mapping is not protected.
      #expect(write(6, to: memory.aliasPage(index).start + 1) == .byte(6))
      try uffd.writeProtect(page, false)
      #expect(try writer.result() == .byte(5))
      #expect(!page.isWriteProtected)
      #expect(read(memory.aliasPage(index).start) == .byte(5))
      #expect(read(page.start + 1) == .byte(6))
    }
    #expect(try !uffd.hasMessage())
  }

  @Test(
    "minor-collapse", .enabled(if: Host.has([.minorShmem, .writeProtectAsync]), SkipReason.pagemapScan),
    .enabled(if: Host.hugePageSize > 0, SkipReason.hugePages))
  func minorCollapse() throws {
    let size = Host.hugePageSize
    let uffd = try Userfaultfd.open(.minorShmem)
    let memory = Memory(.shmem, pages: size / MemoryKind.shmem.pageBytes, alignment: size)
    try uffd.register(memory.range, mode: .minor)
    let alias = AddressRange(start: memory.alias, byteCount: size)
    alias.fill(7)
    for index in [0, 3] {
      let page = memory.page(index)
      let reader = Later { read(page.start) }
      #expect(try uffd.nextFault(in: page) == .minor)
      try uffd.continue(page)
      #expect(try reader.result() == .byte(7))
    }
    // When the file gets a huge page, pages that were not continued must not appear in the registered mapping.
    try #require(cts_collapse(memory.alias, size) == 0)
    #expect(alias.hugeByteCount() == size)
    let page = memory.page(9)
    let reader = Later { read(page.start) }
    #expect(try uffd.nextFault(in: page) == .minor)
    #expect(alias.holdsOnly(7))
    try uffd.continue(page)
    #expect(try reader.result() == .byte(7))
    // All pages are continued. Those that were continued before may still be mapped.
    for index in 0..<(size / memory.pageBytes) {
      do throws(ResolveError) { try uffd.continue(memory.page(index)) } catch {
        #expect(error.errno == .fileExists)
      }
    }
    #expect(memory.range.holdsOnly(7))
    #expect(try !uffd.hasMessage())
  }
}
