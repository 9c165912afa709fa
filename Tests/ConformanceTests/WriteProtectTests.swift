import TestSupport
import Testing

@testable import FaultRuntime

extension UffdUnitTests {
  @Test("wp-unpopulated", .enabled(if: Host.has(.writeProtectUnpopulated), SkipReason.writeProtectUnpopulated))
  func writeProtectUnpopulated() throws {
    let uffd = try Userfaultfd.open([.pagefaultFlagWriteProtect, .writeProtectUnpopulated])
    let memory = Memory(.anon, pages: 2)
    let page = memory.page(0)
    try uffd.register(memory.range, mode: .writeProtect)
    // No thread has touched the page yet.
    try uffd.writeProtect(memory.range, true)
    #expect(page.isWriteProtected)
    try uffd.writeProtect(memory.range, false)
    #expect(!page.isWriteProtected)
    // Reading places a page, which is protected like the empty one.
    try uffd.writeProtect(memory.range, true)
    #expect(read(page.start) == .byte(0))
    #expect(page.isWriteProtected)
    // Discarding drops the protection of a present page and of an empty one.
    #expect(memory.drop(0) == nil)
    #expect(memory.drop(1) == nil)
    #expect(!page.isWriteProtected)
    #expect(!memory.page(1).isWriteProtected)
    // The zero page can be protected too.
    #expect(read(page.start) == .byte(0))
    try uffd.writeProtect(page, true)
    #expect(page.isWriteProtected)
    // The first write to each page is reported.
    try uffd.writeProtect(memory.page(1), true)
    for index in 0..<2 {
      let page = memory.page(index)
      let writer = Later { write(8, to: page.start) }
      #expect(try uffd.nextFault(in: page) == [.write, .writeProtect])
      try uffd.writeProtect(page, false)
      #expect(try writer.result() == .byte(8))
    }
  }

  @Test(
    "uffd-wp-mremap", .enabled(if: Host.has(.writeProtectHugetlbfsShmem), SkipReason.writeProtectShmem),
    arguments: MemoryKind.here)
  func writeProtectAcrossRemap(kind: MemoryKind) throws {
    let uffd = try Userfaultfd.open(.writeProtection(of: kind).union(.eventRemap))
    let memory = try Memory(mapping: kind, pages: 2)
    memory.range.fill(3)
    try uffd.register(memory.range, mode: .writeProtect)
    try uffd.writeProtect(memory.page(0), true)
    let destination = try Reservation(of: memory)
    let mover = Later { memory.move(to: destination) }
    let moved = FaultMessage.remap(
      from: memory.range.start, to: destination.range.start, byteCount: UInt64(memory.range.byteCount))
    #expect(try uffd.nextMessage() == moved)
    #expect(try mover.result() == nil)
    // The protection and the registration have moved with the memory.
    let page = destination.page(0)
    #expect(page.isWriteProtected)
    #expect(!destination.page(1).isWriteProtected)
    #expect(destination.range.holdsOnly(3))
    let writer = Later { write(4, to: page.start) }
    #expect(try uffd.nextFault(in: page) == [.write, .writeProtect])
    try uffd.afterEvent { () throws(ResolveError) in try uffd.writeProtect(page, false) }
    #expect(try writer.result() == .byte(4))
  }

  @Test(
    "uffd-wp-mremap without the event",
    .enabled(if: Host.has(.writeProtectHugetlbfsShmem) && Host.dropsProtectionOnRemap, SkipReason.remapDrops),
    arguments: MemoryKind.here)
  func writeProtectLostByRemap(kind: MemoryKind) throws {
    let uffd = try Userfaultfd.open(.writeProtection(of: kind))
    let memory = try Memory(mapping: kind, pages: 2)
    memory.range.fill(3)
    try uffd.register(memory.range, mode: .writeProtect)
    try uffd.writeProtect(memory.range, true)
    let destination = try Reservation(of: memory)
    #expect(memory.move(to: destination) == nil)
    for index in 0..<2 {
      let page = destination.page(index)
      #expect(!page.isWriteProtected)
      #expect(page.holdsOnly(3))
      #expect(write(4, to: page.start) == .byte(4))
    }
    #expect(try !uffd.hasMessage())
  }
}

extension UserfaultfdFeatures {
  static func writeProtection(of kind: MemoryKind) -> Self {
    kind == .anon ? .pagefaultFlagWriteProtect : [.pagefaultFlagWriteProtect, .writeProtectHugetlbfsShmem]
  }
}
