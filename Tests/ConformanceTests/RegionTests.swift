import CUFFD
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// Runs the cases that are meaningful for a region with a region. The tests check what the program sees, and not the
/// requests to the kernel.
extension UffdUnitTests {
  @Test("zeropage of a region", arguments: [Delivery.eventLoop, .sigbus])
  func zeropageOfRegion(delivery: Delivery) throws {
    let region = try runtime(delivery).map(ZeroProvider(), byteCount: 3 * hostPageBytes)
    let address = region.range.start
    #expect(read(address + UInt(hostPageBytes)) == .byte(0))
    #expect(write(1, to: address + UInt(hostPageBytes)) == .byte(1))
    #expect(write(2, to: address) == .byte(2))
    #expect(read(address + 1) == .byte(0))
    #expect(read(address + UInt(hostPageBytes)) == .byte(1))
    #expect(AddressRange(start: address + UInt(2 * hostPageBytes), byteCount: hostPageBytes).holdsOnly(0))
  }

  @Test(
    "poison of a region", .enabled(if: Host.has(.poison), SkipReason.poison),
    arguments: [Delivery.eventLoop, .sigbus])
  func poisonOfRegion(delivery: Delivery) throws {
    struct Refused: Error {}
    let provider = ClosureProvider(requestSize: .singlePage, permissions: [.concurrentRequests, .signalHandler]) {
      request, page in
      if request.offset / hostPageBytes % 2 == 0 { throw Refused() }
      page.append(repeating: 7, count: request.byteCount)
      return .filled
    }
    let region = try runtime(delivery).map(provider, byteCount: 4 * hostPageBytes)
    for index in 0..<4 {
      let page = AddressRange(start: region.range.start + UInt(index * hostPageBytes), byteCount: hostPageBytes)
      // Every touch fails, from any thread, anywhere in the page, and again later.
      let other = Later { read(page.end - 1) }
      #expect(try other.result() == (index % 2 == 0 ? .signal(SIGBUS) : .byte(7)))
      #expect(read(page.start) == (index % 2 == 0 ? .signal(SIGBUS) : .byte(7)))
      #expect(write(1, to: page.start) == (index % 2 == 0 ? .signal(SIGBUS) : .byte(1)))
    }
    #expect(Set(region.failures.map(\.offset)) == [0, 2 * hostPageBytes])
  }

  @Test("sigbus of a region")
  func sigbusOfRegion() throws {
    // The signal is raised, but the library handles it, so the program only sees bytes.
    let region = try runtime(.sigbus).map(offsets(), byteCount: 8 * hostPageBytes)
    #expect(region.delivery == .sigbus)
    for index in [3, 0, 7] {
      let address = region.range.start + UInt(index * hostPageBytes)
      let reader = Later { read(address) }
      #expect(try reader.result() == .byte(UInt8(index + 1)))
      #expect(write(99, to: address) == .byte(99))
      #expect(read(address + 1) == .byte(UInt8(index + 1)))
    }
  }

  @Test("events of a region: pages that are dropped as soon as they are there", arguments: Server.allCases)
  private func dropInRegion(server: Server) throws {
    let provider = offsets(mayBlock: server == .pool)
    let region = try runtime(server == .faultingThread ? .sigbus : .eventLoop)
      .map(provider, byteCount: 4 * hostPageBytes)
    let address = region.range.start + UInt(hostPageBytes)
    // The thread continues, discards the page and faults again, while the server may not have finished with the first
    // fault.
    let toucher = Later { () -> Access in
      for _ in 0..<2000 {
        let written = write(99, to: address)
        guard written == .byte(99), cuffd_discard(UInt64(address), hostPageBytes) == 0 else { return written }
        // The page is requested again, and does not read as zero.
        let found = read(address)
        if found != .byte(2) { return found }
      }
      return .byte(2)
    }
    #expect(try toucher.result() == .byte(2))
    #expect(region.failures.isEmpty)
  }

  @Test("events of a region: a fork", arguments: [Delivery.eventLoop, .sigbus])
  func forkOfRegion(delivery: Delivery) async {
    await #expect(processExitsWith: .success) { [name = delivery.rawValue as String] in
      limitTime()
      let region = try runtime(try #require(Delivery(rawValue: name))).map(offsets(), byteCount: 4 * hostPageBytes)
      let first = AddressRange(start: region.range.start, byteCount: hostPageBytes)
      let second = AddressRange(start: first.end, byteCount: hostPageBytes)
      #expect(read(first.start) == .byte(1))
      // Without an event, no process could serve the child. The child therefore has no such memory, rather than
      // zeros.
      let child = Child()
      #expect(child.read(first) == .signal(SIGSEGV))
      #expect(child.read(second) == .signal(SIGSEGV))
      #expect(read(second.start) == .byte(2))
    }
  }
}

/// The thread that answers the faults of a region.
private enum Server: CaseIterable { case handler, pool, faultingThread }

private var hostPageBytes: Int { MemoryKind.anon.pageBytes }

private func runtime(_ delivery: Delivery) throws -> FaultRuntime {
  try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
}

/// Returns a provider that fills each page with its number, counted from 1.
private func offsets(mayBlock: Bool = false) -> ClosureProvider {
  ClosureProvider(requestSize: .singlePage, permissions: mayBlock ? .standard : .inMemory) { request, page in
    page.append(repeating: UInt8(request.offset / hostPageBytes + 1), count: request.byteCount)
    return .filled
  }
}

extension LazyRegion {
  fileprivate var range: AddressRange {
    AddressRange(start: unsafe UInt(bitPattern: unsafeBytes.baseAddress), byteCount: byteCount)
  }
}
