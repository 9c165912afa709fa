import CTestSupport
import CUFFD
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

@Suite("A thread may be forced out of a fault", .timeLimit(.minutes(6)))
struct ForcedExitTests {
  /// The ways in which a fault is answered, and whether the provider may run on the faulting thread.
  enum Way: String, CaseIterable {
    case handler, pool, sigbus, sigsegv, helper

    var delivery: Delivery {
      switch self {
      case .handler, .pool: .eventLoop
      case .sigbus: .sigbus
      case .sigsegv, .helper: .sigsegv
      }
    }

    var permissions: ProviderPermissions {
      switch self {
      case .handler: .onHandler
      case .pool, .helper: .standard
      case .sigbus, .sigsegv: .inMemory
      }
    }

    func runtime() throws -> FaultRuntime { try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery)) }

    var provider: ClosureProvider {
      ClosureProvider(requestSize: .singlePage, permissions: permissions) { request, page in
        page.appendExpected(request)
        return .filled
      }
    }
  }

  @Test("A thread that is cancelled at any instruction leaves no lock behind", arguments: Way.allCases)
  func cancelled(way: Way) throws {
    let runtime = try way.runtime()
    var read = 0
    for round in 0..<300 {
      let region = try runtime.map(way.provider, byteCount: 64 * pageBytes)
      unsafe read += cts_cancel_walker(cts_start_walker(region.address, region.byteCount, true), round % 60)
      region.close()
    }
    #expect(read > 0)
    #expect(runtime.regionCount == 0)
    let region = try runtime.map(way.provider, byteCount: 64 * pageBytes)
    #expect(mismatches(in: region).isEmpty)
  }

  @Test("A plain load is no cancellation point, whatever the provider does", .serialized, arguments: Way.allCases)
  func noCancellationPoint(way: Way) throws {
    let file = try TemporaryFile(bytes: expectedBytes(0..<(32 * pageBytes)))
    let runtime = try way.runtime()
    let before = directory("/proc/self/fd").count
    for _ in 0..<20 {
      let region = try runtime.map(try FileProvider(file.path))
      // The cancellation waits before the first touch.
      #expect(unsafe cts_cancel_walker(cts_start_walker(region.address, region.byteCount, false), 0) == 32)
      region.close()
    }
    #expect(runtime.regionCount == 0)
    #expect(directory("/proc/self/fd").count <= before + 1)
  }

  @Test(
    "What a fault held whose handler was left by a jump is let go at the thread's next fault, and at the thread's end",
    arguments: Delivery.inFaultingThread)
  func jumped(delivery: Delivery) throws {
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
    let bad = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: .inSignalHandler) { _, _ in throw Refused() },
      byteCount: pageBytes)
    let badAddress = bad.address
    let region = try runtime.map(
      ClosureProvider(requestSize: .singlePage, permissions: .inSignalHandler) { request, page in
        // The handler of the signal of this read jumps over the provider.
        page.append(repeating: cts_load(badAddress), count: request.byteCount)
        return .filled
      }, byteCount: 256 * pageBytes)
    let staging = (region.server as? SigbusServer)?.staging ?? (region.server as? SigsegvServer)?.staging
    let pool = try #require(staging)
    let users = try #require(region.core.usersInTable)
    let thread = Later<[Int]> {
      (0..<256).map { page in
        #expect(region.access(page * pageBytes) == .signal(delivery.signal))
        return pool.slotsInUse
      }
    }
    // Only the latest answer still holds something.
    #expect(try thread.result().allSatisfy { $0 <= 1 })
    #expect(pool.slotsInUse == 0)
    #expect(region.core.usersInTable == users)
  }

  @Test("A fault in a child of vfork is answered, because it uses the same memory", arguments: Way.allCases)
  func vforked(way: Way) async {
    await #expect(processExitsWith: .success) { [name = way.rawValue as String] in
      alarm(30)
      let way = Way(rawValue: name)!
      let runtime = try way.runtime()
      let region = try runtime.map(way.provider, byteCount: 4 * pageBytes)
      #expect(cts_read_in_vfork(region.address) == CInt(expectedByte(0)))
      #expect(region.access(pageBytes) == .byte(expectedByte(pageBytes)))
      region.close()
    }
  }

  @Test(
    "A signal handler of the program may touch lazy memory while its thread runs code of the library",
    arguments: [Way.pool, .handler, .helper, .sigsegv, .sigbus])
  func timer(way: Way) async {
    await #expect(processExitsWith: .success) { [name = way.rawValue as String] in
      alarm(100)
      let way = Way(rawValue: name)!
      let runtime = try way.runtime()
      let hot = try runtime.map(
        ClosureProvider(requestSize: .singlePage, permissions: way.permissions) { request, page in
          let number = request.offset / pageBytes
          page.append(repeating: UInt8(number % 251 + 1), count: request.byteCount)
          return .filled
        }, byteCount: 16384 * pageBytes, options: RegionOptions(advice: .random))
      let thread = TestThread {
        #expect(cts_touch_by_timer(hot.address, hot.byteCount, 500) == 0)
        while cts_timer_touches() < 2000 {
          guard let region = try? runtime.map(way.provider, byteCount: 16 * pageBytes) else { break }
          for page in 0..<8 { try? region.prefetch((page * pageBytes)..<((page + 1) * pageBytes)) }
          _ = region.failures
          _ = region.access(9 * pageBytes)
          region.close()
        }
        #expect(cts_touch_by_timer(hot.address, hot.byteCount, 0) == 0)
      }
      #expect(eventually(seconds: 80) { thread.isDone })
      #expect(cts_timer_touches() >= 2000)
      #expect(cts_timer_mistakes() == 0)
    }
  }
}
