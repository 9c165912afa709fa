import CUFFD
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("The userfaultfd ABI", .timeLimit(.minutes(6)))
struct ABITests {
  @Test("There are 17 features, each with a bit of its own")
  func features() {
    let all: [UserfaultfdFeatures] = [
      .pagefaultFlagWriteProtect, .eventFork, .eventRemap, .eventRemove, .missingHugetlbfs, .missingShmem, .eventUnmap,
      .sigbus, .threadID, .minorHugetlbfs, .minorShmem, .exactAddress, .writeProtectHugetlbfsShmem,
      .writeProtectUnpopulated, .poison, .writeProtectAsync, .move,
    ]
    #expect(all.map(\.rawValue) == (0..<17).map { 1 << UInt64($0) })
  }

  @Test("Messages are decoded by event")
  func messages() {
    var raw = cuffd_msg()
    raw.event = UInt8(CUFFD_EVENT_PAGEFAULT)
    unsafe raw.arg.pagefault.flags = UInt64(CUFFD_PAGEFAULT_FLAG_WRITE)
    unsafe raw.arg.pagefault.address = 0x7000
    unsafe raw.arg.pagefault.feat.ptid = 42
    #expect(FaultMessage(raw) == .pagefault(address: 0x7000, flags: .write, thread: 42))

    raw = cuffd_msg()
    raw.event = UInt8(CUFFD_EVENT_FORK)
    unsafe raw.arg.fork.ufd = 7
    #expect(FaultMessage(raw) == .fork(descriptor: 7))

    raw = cuffd_msg()
    raw.event = UInt8(CUFFD_EVENT_REMAP)
    unsafe raw.arg.remap.from = 1
    unsafe raw.arg.remap.to = 2
    unsafe raw.arg.remap.len = 3
    #expect(FaultMessage(raw) == .remap(from: 1, to: 2, byteCount: 3))

    raw = cuffd_msg()
    raw.event = UInt8(CUFFD_EVENT_REMOVE)
    unsafe raw.arg.remove.start = 4
    unsafe raw.arg.remove.end = 5
    #expect(FaultMessage(raw) == .remove(start: 4, end: 5))
    raw.event = UInt8(CUFFD_EVENT_UNMAP)
    #expect(FaultMessage(raw) == .unmap(start: 4, end: 5))

    raw.event = 0x7f
    #expect(FaultMessage(raw) == .unknown(0x7f))
  }

  @Test(
    "PAGEMAP_SCAN sees which pages are there",
    .enabled(if: Host.features.contains(.writeProtectAsync), SkipReason.pagemapScan))
  func pagemapScan() {
    let scratch = Scratch(pages: 4)
    #expect(write(1, to: scratch.page(2).start) == .byte(1))
    let found = parts(of: scratch.range.start..<scratch.range.end, with: CUFFD_PAGE_IS_PRESENT)
    #expect(found == [scratch.page(2).start..<scratch.page(2).end])
  }
}
