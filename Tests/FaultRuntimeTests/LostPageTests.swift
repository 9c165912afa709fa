import CTestSupport
import CUFFD
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// Calls for ranges in which the program has unmapped or moved a page. Every test is a process of its own, so that no
/// other test takes the place of that page.
@Suite("Pages that the program has taken out of a region", .timeLimit(.minutes(6)))
struct LostPageTests {
  private static let pages = 8
  private static let lost = 3

  /// How the page is lost.
  enum Way: String, CaseIterable {
    case unmapped, replaced, moved, movedInside

    func apply(to region: LazyRegion) {
      let start = region.address + UInt(lost * pageBytes)
      switch self {
      case .unmapped:
        #expect(unsafe munmap(UnsafeMutableRawPointer(bitPattern: start), pageBytes) == 0)
      case .replaced:
        let flags = MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS
        let rights = PROT_READ | PROT_WRITE
        #expect(
          UInt(
            bitPattern: unsafe mmap(UnsafeMutableRawPointer(bitPattern: start), pageBytes, rights, flags, -1, 0))
            == start)
      case .moved:
        let target = unsafe mmap(nil, pageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        #expect(cts_move_mapping(start, pageBytes, UInt(bitPattern: target)) == 0)
      case .movedInside:
        #expect(cts_move_mapping(start, pageBytes, region.address + UInt(6 * pageBytes)) == 0)
      }
    }
  }

  private static func isAboutLostPage(_ error: FaultRuntimeError?) -> Bool {
    error?.code == .pageFailed && error?.failure?.offset == lost * pageBytes
      && (error?.failure?.cause as? ResolutionError)?.errno == .noSuchFileOrDirectory
  }

  /// Returns which pages of the region are resident. In the place of the lost page, other memory may be.
  private static func residentPages(_ region: LazyRegion) -> [Int] {
    (0..<pages).filter { $0 != lost && region.core.memory.isThere(region.address + UInt($0 * pageBytes)) }
  }

  @Test(
    "The error names the first page that is lost, and the pages before it have come",
    arguments: [Delivery.eventLoop, .sigbus], Way.allCases)
  func named(delivery: Delivery, way: Way) async {
    await #expect(processExitsWith: .success) {
      [name = delivery.rawValue as String, wayName = way.rawValue as String] in
      let region = try FaultRuntime(FaultRuntimeConfiguration(delivery: Delivery(rawValue: name)!)).map(
        patternProvider(inFaultingThread: true), byteCount: Self.pages * pageBytes,
        options: RegionOptions(access: .readWrite))
      Way(rawValue: wayName)!.apply(to: region)
      let all = 0..<(Self.pages * pageBytes)
      // The call of the program may return shortly before the runtime has noted the event.
      #expect(eventually { region.core.firstLostPage(of: all) == Self.lost * pageBytes })
      let before = 0..<(Self.lost * pageBytes)

      var pieces: [Int] = []
      #expect(
        Self.isAboutLostPage(
          #expect(throws: FaultRuntimeError.self) {
            try region.forEachPiece(of: all, byteCount: pageBytes) { _, offset throws(FaultRuntimeError) in
              pieces.append(offset)
            }
          }))
      #expect(pieces == [0, 1, 2].map { $0 * pageBytes })
      #expect(Self.residentPages(region) == [])

      #expect(Self.isAboutLostPage(#expect(throws: FaultRuntimeError.self) { try region.prefetch(all) }))
      #expect(Self.residentPages(region) == [0, 1, 2])
      #expect(Self.isAboutLostPage(#expect(throws: FaultRuntimeError.self) { try region.read(all) }))
      #expect(
        Self.isAboutLostPage(
          #expect(throws: FaultRuntimeError.self) { try region.write([1], at: Self.lost * pageBytes) }))
      #expect(try region.read(before) == expectedBytes(before))
      let behind = (4 * pageBytes)..<(6 * pageBytes)
      #expect(try region.read(behind) == expectedBytes(behind))
    }
  }

  @Test("A page that is unmapped while a prefetch runs ends it at that page, before the event is read")
  func unknown() async {
    await #expect(processExitsWith: .success) {
      let isAsked = Gate()
      let gate = Gate()
      var configuration = FaultRuntimeConfiguration(delivery: .eventLoop)
      configuration.handlerThreads = 1
      let region = try FaultRuntime(configuration).map(
        ClosureProvider(permissions: .inMemory) { request, _ in
          if request.offset == 7 * pageBytes {
            isAsked.open()
            gate.wait()
          }
          return .zero
        }, byteCount: Self.pages * pageBytes, options: RegionOptions(advice: .random))
      let address = region.address
      for page in 0..<Self.lost { #expect(region.access(page * pageBytes) == .byte(0)) }
      // The handler thread waits in the provider, so it reads no event.
      let reader = TestThread { _ = read(address + UInt(7 * pageBytes)) }
      isAsked.wait()
      let hole = address + UInt(Self.lost * pageBytes)
      let unmapping = TestThread { _ = unsafe munmap(UnsafeMutableRawPointer(bitPattern: hole), pageBytes) }
      var note: UInt8 = 0
      #expect(
        eventually {
          unsafe KernelErrno(returned: cuffd_residency(UInt64(hole), pageBytes, &note)) == .noMemory
        })
      #expect(region.core.firstLostPage(of: 0..<region.core.byteCount) == nil)
      var filler = BulkFiller(pageSize: .ofHost(), resolveTimeout: 0)
      let next = try filler.step(region.core, from: 0, to: 6 * pageBytes, forbidden: nil, counting: NoCounter())
      #expect(next == Self.lost * pageBytes)
      let failure = #expect(throws: BulkFiller.Failure.self) {
        try filler.step(region.core, from: next, to: 6 * pageBytes, forbidden: nil, counting: NoCounter())
      }
      #expect(failure?.page == hole)
      #expect((failure?.cause as? ResolutionError)?.errno == .noSuchFileOrDirectory)
      gate.open()
      #expect(reader.join())
      #expect(unmapping.join())
    }
  }

  private final class NoCounter: FillCounter {
    func countBytesFilled(_ amount: Int) {}
  }
}
