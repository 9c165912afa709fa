import CUFFD
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

extension UffdUnitTests {
  @Test("zeropage", arguments: MemoryKind.here)
  func zeropage(kind: MemoryKind) throws {
    let uffd = try Userfaultfd.open([])
    let memory = try Memory(mapping: kind, pages: 2)
    let requests = try uffd.register(memory.range, mode: .missing)
    #expect(requests.contains(.zeropage) == !kind.isHuge)
    guard !kind.isHuge else {
      return expect(.zeropage, .invalidArgument) { () throws(ResolveError) in try uffd.zeropage(memory.page(1)) }
    }
    let page = memory.page(1)
    let reader = Later { read(page.end - 1) }
    #expect(try uffd.nextFault(in: page) == [])
    try uffd.zeropage(page)
    #expect(try reader.result() == .byte(0))
    #expect(page.holdsOnly(0))
    expect(.zeropage, .fileExists) { () throws(ResolveError) in try uffd.zeropage(page) }
    #expect(write(9, to: page.start) == .byte(9))
    #expect(try !uffd.hasMessage())
  }

  @Test("poison", .enabled(if: Host.has(.poison), SkipReason.poison), arguments: MemoryKind.here)
  func poison(kind: MemoryKind) throws {
    let uffd = try Userfaultfd.open(.poison)
    let memory = try Memory(mapping: kind, pages: 4)
    let source = Memory(.anon, pages: kind.pageBytes / MemoryKind.anon.pageBytes)
    source.range.fill(7)
    #expect(try uffd.register(memory.range, mode: .missing).contains(.poison))
    // Every other page fails, for a waiting thread and again later.
    for index in 0..<4 {
      let page = memory.page(index)
      let reader = Later { read(page.start) }
      #expect(try uffd.nextFault(in: page) == [])
      if index % 2 == 0 { try uffd.poison(page) } else { try unsafe uffd.copy(page, from: source.pointer) }
      #expect(try reader.result() == (index % 2 == 0 ? .signal(SIGBUS) : .byte(7)))
    }
    #expect(read(memory.page(2).end - 1) == .signal(SIGBUS))
    #expect(write(1, to: memory.page(0).start) == .signal(SIGBUS))
    expect(.poison, .fileExists) { () throws(ResolveError) in try uffd.poison(memory.page(0)) }
    expect(.poison, .fileExists) { () throws(ResolveError) in try uffd.poison(memory.page(1)) }
    #expect(try !uffd.hasMessage())
    // A copy cures one poisoned page, and discarding the marker cures the other. Removing the page from its file with
    // MADV_REMOVE is not enough.
    try unsafe uffd.copy(memory.page(0), from: source.pointer)
    #expect(memory.page(0).holdsOnly(7))
    let page = memory.page(2)
    #expect(cuffd_discard(UInt64(page.start), page.byteCount) == 0)
    let reader = Later { read(page.start) }
    #expect(try uffd.nextFault(in: page) == [])
    try unsafe uffd.copy(page, from: source.pointer)
    #expect(try reader.result() == .byte(7))
  }

  @Test("mmap-changing", arguments: MemoryKind.here)
  func mmapChanging(kind: MemoryKind) throws {
    let uffd = try Userfaultfd.open(Host.features.intersection([.eventRemove, .poison, .move]))
    let memory = try Memory(mapping: kind, pages: 4)
    let source = try Memory(mapping: kind, pages: 1)
    source.keepFromChildren()
    source.range.fill(7)
    let requests = try uffd.register(memory.range, mode: kind.isShared ? [.missing, .minor] : .missing)
    let dropping = Later { memory.drop(3) }
    #expect(eventually { isReadable(uffd.descriptor) })

    // The kernel does nothing and reports nothing as done. A caller that trusted a count would skip pages.
    expect(.copy, .resourceTemporarilyUnavailable) { () throws(ResolveError) in
      try unsafe uffd.copy(memory.page(0), from: source.pointer)
    }
    if requests.contains(.zeropage) {
      expect(.zeropage, .resourceTemporarilyUnavailable) { () throws(ResolveError) in try uffd.zeropage(memory.page(0))
      }
    }
    if requests.contains(.poison) {
      expect(.poison, .resourceTemporarilyUnavailable) { () throws(ResolveError) in try uffd.poison(memory.page(0)) }
    }
    if requests.contains(.continue) {
      expect(.continue, .resourceTemporarilyUnavailable) { () throws(ResolveError) in try uffd.continue(memory.page(0))
      }
    }
    if kind == .anon, requests.contains(.move) {
      expect(.move, .resourceTemporarilyUnavailable) { () throws(ResolveError) in
        try uffd.move(memory.page(0), from: source.range.start)
      }
    }
    #expect(!dropping.isDone)

    #expect(try uffd.nextMessage() == .remove(start: memory.page(3).start, end: memory.page(3).end))
    #expect(try dropping.result() == nil)
    try uffd.afterEvent { () throws(ResolveError) in try unsafe uffd.copy(memory.page(0), from: source.pointer) }
    #expect(memory.page(0).holdsOnly(7))
  }
}
