import Archive
import FaultRuntime
import Testing

/// What a program may ask for on this host, as the library reports it.
enum Host {
  static let report = HostReport()
  static let deliveries: [Delivery] =
    report.userModeFaults.descriptor == nil ? [.auto, .sigsegv] : Delivery.allCases
  static let pageSize = report.pageSize
}

func makeRuntime(_ delivery: Delivery = .auto) throws -> FaultRuntime {
  try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
}

/// Touches a range and returns how many of its bytes differ from those of `Squares`. If the result is not used, a
/// release build touches nothing.
func mismatches(_ region: LazyRegion, _ range: Range<Int>) -> Int {
  let bytes = region.bytes
  return range.count { unsafe bytes.unsafeLoad(fromByteOffset: $0, as: UInt8.self) != Squares.byte(at: $0) }
}

@Suite("The host")
struct HostTests {
  @Test("The report and the runtime agree on what there is")
  func agree() throws {
    #expect(try makeRuntime().pageSize == Host.pageSize)
    if Host.deliveries != Delivery.allCases {
      let error = #expect(throws: FaultRuntimeError.self) { try makeRuntime(.eventLoop) }
      #expect(error?.code == .userfaultfdUnavailable)
    } else {
      #expect(try makeRuntime(.eventLoop).descriptor != nil)
    }
  }
}
