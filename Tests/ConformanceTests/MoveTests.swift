import CTestSupport
import CUFFD
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// Tests UFFDIO_MOVE, which works for anonymous memory only.
extension UffdUnitTests {
  @Test("move", .enabled(if: Host.has(.move), SkipReason.move))
  func move() throws {
    let uffd = try Userfaultfd.open(.move)
    let target = Memory(.anon, pages: 4)
    let source = Memory(.anon, pages: 4)
    source.keepFromChildren()
    try uffd.register(target.range, mode: .missing)
    for index in 0..<4 { source.page(index).fill(UInt8(10 + index)) }
    for index in 0..<4 {
      let page = target.page(index)
      let reader = Later { read(page.start) }
      #expect(try uffd.nextFault(in: page) == [])
      try uffd.move(page, from: source.page(index).start)
      #expect(try reader.result() == .byte(UInt8(10 + index)))
      #expect(page.holdsOnly(UInt8(10 + index)))
      // The source is empty afterwards, because the page was moved and not copied.
      #expect(source.page(index).holdsOnly(0))
    }
    source.page(0).fill(1)
    expect(.move, .fileExists) { () throws(ResolveError) in try uffd.move(target.page(0), from: source.page(0).start) }
    #expect(target.page(0).holdsOnly(10))
  }

  @Test(
    "move-pmd", .enabled(if: Host.has(.move), SkipReason.move),
    .enabled(if: Host.hugePageSize > 0, SkipReason.hugePages))
  func movePMD() throws {
    let size = Host.hugePageSize
    let uffd = try Userfaultfd.open(.move)
    let target = hugeTarget()
    let source = try filledHugePage(5)
    try uffd.register(target.range, mode: .missing)
    let address = target.range.start + UInt(size + 12345)
    let reader = Later { read(address) }
    let half = AddressRange(start: target.range.start + UInt(size), byteCount: size)
    #expect(try uffd.nextFault(in: half) == [])
    try uffd.move(half, from: source.range.start)
    #expect(try reader.result() == .byte(5))
    #expect(half.holdsOnly(5))
    // The page was moved as one huge page.
    #expect(half.hugeByteCount() == size)
    #expect(source.range.hugeByteCount() == 0)
    #expect(source.range.holdsOnly(0))
    #expect(try !uffd.hasMessage())
  }

  @Test(
    "move-pmd-split", .enabled(if: Host.has(.move), SkipReason.move),
    .enabled(if: Host.hugePageSize > 0, SkipReason.hugePages))
  func movePMDSplit() throws {
    let size = Host.hugePageSize
    let uffd = try Userfaultfd.open(.move)
    let target = hugeTarget()
    let source = try filledHugePage(6)
    try uffd.register(target.range, mode: .missing)
    // The middle of the source goes to a place with another offset in its huge page, which only small pages can do.
    let part = AddressRange(start: source.range.start + UInt(target.pageBytes * 2), byteCount: size / 2)
    let place = AddressRange(start: target.range.start + UInt(target.pageBytes * 5), byteCount: size / 2)
    let reader = Later { read(place.end - 1) }
    #expect(try uffd.nextFault(in: place) == [])
    try moveSplitting(place, from: part.start, with: uffd)
    #expect(try reader.result() == .byte(6))
    #expect(place.holdsOnly(6))
    #expect(target.range.hugeByteCount() == 0)
    #expect(source.range.hugeByteCount() == 0)
    // The rest of the source has stayed in place.
    #expect(part.holdsOnly(0))
    #expect(AddressRange(start: source.range.start, byteCount: source.pageBytes * 2).holdsOnly(6))
    #expect(AddressRange(start: part.end, byteCount: Int(source.range.end - part.end)).holdsOnly(6))
    // The pages around the target are still missing.
    let next = target.page(4)
    let neighbour = Later { read(next.start) }
    #expect(try uffd.nextFault(in: next) == [])
    try uffd.zeropage(next)
    #expect(try neighbour.result() == .byte(0))
  }

  /// Moves small pages out of a huge page. The kernel cannot split it, and reports EBUSY, while a part of the kernel
  /// itself holds a reference to it: a batch of the LRU lists, or DAMON. Such a reference does not last.
  private func moveSplitting(_ place: AddressRange, from source: UInt, with uffd: borrowing Userfaultfd) throws {
    var done = 0
    var failure: ResolveError?
    _ = eventually {
      do throws(ResolveError) {
        try uffd.move(place.dropping(done), from: source + UInt(done))
        failure = nil
        return true
      } catch {
        failure = error
        done += error.completedByteCount
        return error.errno != .resourceBusy
      }
    }
    if let failure { throw failure }
  }

  private func hugeTarget() -> Memory {
    let size = Host.hugePageSize
    let target = Memory(.anon, pages: 2 * size / MemoryKind.anon.pageBytes, alignment: size)
    // Without this advice, the fault itself would create a page table there, and the huge page would have to be
    // split.
    let start = unsafe UnsafeMutableRawPointer(bitPattern: target.range.start)
    unsafe madvise(start, target.range.byteCount, MADV_HUGEPAGE)
    return target
  }

  /// Makes memory that is one huge page, even if the kernel did not allocate one at first.
  private func filledHugePage(_ value: UInt8) throws -> Memory {
    let size = Host.hugePageSize
    let source = Memory(.anon, pages: size / MemoryKind.anon.pageBytes, alignment: size)
    source.keepFromChildren()
    source.range.fill(value)
    try #require(cts_collapse(source.range.start, size) == 0)
    try #require(source.range.hugeByteCount() == size)
    return source
  }
}
