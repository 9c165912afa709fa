import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("Providers that ask for pages of their own region, or take them away", .timeLimit(.minutes(6)))
struct OwnRegionTests {
  /// A way in which a provider asks for pages of its own region.
  enum Way: CaseIterable {
    case prefetch, populate, read, resident, pieces, retry, write
  }

  private static func ask(_ region: LazyRegion, _ way: Way) throws(FaultRuntimeError) {
    switch way {
    case .prefetch: try region.prefetch(0..<pageBytes)
    case .populate: try region.populate()
    case .read: _ = try region.read(0..<8)
    case .resident: try region.withResident(0..<8) { bytes throws(FaultRuntimeError) in _ = bytes.byteCount }
    case .pieces:
      try region.forEachPiece(of: 0..<pageBytes) { bytes, _ throws(FaultRuntimeError) in _ = bytes.byteCount }
    case .retry: try region.retry(0..<region.byteCount)
    case .write: try region.write([1, 2, 3])
    }
  }

  @Test("The calls that throw are an error inside a call of the region's own provider", arguments: Asker.allCases)
  func asks(asker: Asker) throws {
    let runtime = try FaultRuntime(
      FaultRuntimeConfiguration(delivery: asker.delivery, handlerThreads: 1, onNotice: { _ in }))
    let place = Monitor<LazyRegion?>(nil)
    let isAsking = Atomic<Bool>(false)
    let codes = Log<FaultRuntimeError.Code?>()
    let other = try runtime.map(patternProvider(seed: 2, inFaultingThread: true), byteCount: pageBytes)
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: asker.permissions) { request, page in
        // A request that comes from here is answered, so that a missing error ends the test and not the process.
        if let region = place.withLock({ $0 }), !isAsking.exchange(true, ordering: .relaxed) {
          for way in Way.allCases {
            do throws(FaultRuntimeError) {
              try Self.ask(region, way)
              codes.add(nil)
            } catch {
              codes.add(error.code)
            }
          }
          isAsking.store(false, ordering: .relaxed)
        }
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 4 * pageBytes, options: RegionOptions(advice: .random))
    // Only a page that has failed is retried. Where the kernel cannot poison a page, such a page ends the process with
    // the event loop, so only the failure is recorded here, and the page itself stays missing.
    let failed = 3 * pageBytes
    region.core.report(Refused(), atPage: region.address + UInt(failed), to: nil)
    #expect(region.failure(at: failed)?.cause is Refused)
    place.withLock { $0 = region }
    defer { place.withLock { $0 = nil } }
    let expected = Array(repeating: FaultRuntimeError.Code.prefetchFromProvider, count: Way.allCases.count)
    let toucher = Later { region.access(2 * pageBytes) }
    #expect(try toucher.result() == .byte(expectedByte(2 * pageBytes)))
    #expect(codes.all == expected)
    #expect(!region.isResident(failed))
    // The thread may ask again when the call has returned.
    let retrier = Later { try? region.retry(0..<region.byteCount) }
    #expect(try retrier.result() != nil)
    #expect(region.isResident(failed))
    #expect(region.failure(at: failed) == nil)
    let filler = Later { try? region.populate() }
    #expect(try filler.result() != nil)
    #expect(mismatches(in: region) == [])
    #expect(throws: Never.self) { try other.populate() }
  }

  @Test("A call that was left by siglongjmp does not count")
  func jumps() {
    let here = UInt64(0x1000)
    #expect(!cuffd_asking_includes(here))
    /// Begins to ask, deeper in the stack than the caller, and does not end it.
    @inline(never)
    func leave(_ depth: Int) -> Int {
      if depth > 0 { return leave(depth - 1) + 1 }
      _ = cuffd_asking_begin(here)
      return 0
    }
    for _ in 0..<100 { #expect(leave(8) == 8) }
    #expect(!cuffd_asking_includes(here))
    let before = cuffd_asking_begin(here)
    #expect(cuffd_asking_includes(here))
    #expect(!cuffd_asking_includes(here + 1))
    cuffd_asking_end(before)
    #expect(!cuffd_asking_includes(here))
  }

  /// A change that a provider makes to memory of its own region.
  enum Change: CaseIterable {
    case discard, unmap, move
  }

  @Test("A provider on the handler thread that changes its own memory goes on", arguments: Change.allCases)
  func changes(change: Change) async {
    switch change {
    case .discard: await #expect(processExitsWith: .success) { try Self.runChange(.discard) }
    case .unmap: await #expect(processExitsWith: .success) { try Self.runChange(.unmap) }
    case .move: await #expect(processExitsWith: .success) { try Self.runChange(.move) }
    }
  }

  private static func runChange(_ change: Change) throws {
    // Nothing can end a thread that waits for an event which nobody reads.
    limitTime()
    var configuration = FaultRuntimeConfiguration(delivery: .eventLoop, handlerThreads: 1)
    let events = Log<RegionEvent.Kind>()
    configuration.onEvent = { events.add($0.kind) }
    let runtime = try FaultRuntime(configuration)
    let address = Atomic<UInt>(0)
    let target = Scratch(pages: 1)
    let results = Log<CInt>()
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: .onHandler) { request, page in
        let last = unsafe UnsafeMutableRawPointer(
          bitPattern: address.load(ordering: .relaxed) + UInt(3 * pageBytes))
        if request.offset == 0 {
          switch change {
          case .discard: results.add(unsafe madvise(last, pageBytes, MADV_DONTNEED))
          case .unmap: results.add(unsafe munmap(last!, pageBytes))
          case .move: results.add(cts_move_mapping(UInt(bitPattern: last), pageBytes, target.range.start))
          }
        }
        page.append(expectedBytes(request.range))
        return .filled
      }, byteCount: 4 * pageBytes, options: RegionOptions(advice: .random))
    address.store(region.address, ordering: .relaxed)
    #expect(region.access(3 * pageBytes) == .byte(expectedByte(3 * pageBytes)))
    #expect(region.access(0) == .byte(expectedByte(0)))
    #expect(results.all == [0])
    // The system call may return before the hook has been called.
    #expect(eventually { !events.all.isEmpty })
    #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
    exit(0)
  }
}
