import TestSupport
import Testing

@testable import FaultRuntime

/// Checks what a program can do with the values of public types that may get more cases.
@Suite("Values that may get more cases", .timeLimit(.minutes(6)))
struct OpenValueTests {
  private func checkNames<Value>(_ type: Value.Type, _ names: [String])
  where Value: CaseIterable & RawRepresentable<String> & Hashable & CustomStringConvertible {
    #expect(Value.allCases.map(\.rawValue) == names)
    for value in Value.allCases {
      #expect(Value(rawValue: value.rawValue) == value)
      #expect(value.description == value.rawValue)
      #expect(Value.allCases.filter { $0 == value }.count == 1)
    }
    #expect(Value(rawValue: "something newer") == nil)
    #expect(Set(Value.allCases).count == names.count)
  }

  @Test("Names lead to values and back, and no two are equal")
  func names() {
    checkNames(Delivery.self, ["auto", "event-loop", "sigbus", "sigsegv"])
    checkNames(DescriptorKind.self, ["full", "device", "user-mode-only", "device-user-mode-only"])
    checkNames(PoisonFallback.self, ["abort", "keepWaiting"])
    checkNames(
      HostCause.self,
      [
        "sysctl", "capability", "device-permissions", "device-missing", "device-cgroup", "seccomp", "kernel-config",
        "kernel-too-old", "gvisor", "security-module", "open-files", "unknown",
      ])
    #expect(RegionOptions.Advice.allCases == [.normal, .random, .sequential])
    #expect(RegionOptions.Advice.allCases.map(\.description) == ["normal", "random", "sequential"])
    #expect("\(RegionOptions.Access.readWrite), \(RegionOptions.Access.readOnly)" == "readWrite, readOnly")
  }

  @Test("A placement and a choice of descriptor tell what they were made with")
  func payloads() {
    #expect(HandlerPlacement.spinning(.milliseconds(1)).spinningDuration == .milliseconds(1))
    #expect(HandlerPlacement.spinning(.milliseconds(1)) != .spinning(.milliseconds(2)))
    let others: [HandlerPlacement] = [.automatic, .withFaultingThread, .scheduler]
    #expect(others.allSatisfy { $0.spinningDuration == nil })
    #expect(others.map(\.description) == ["automatic", "withFaultingThread", "scheduler"])
    #expect(DescriptorChoice.only(.device).onlyKind == .device)
    #expect(DescriptorChoice.automatic.onlyKind == nil)
    #expect("\(DescriptorChoice.automatic), \(DescriptorChoice.only(.full))" == "automatic, only full")
  }

  @Test("An event tells what, which region and where")
  func events() {
    let discarded = RegionEvent.discarded(region: "r", range: 0..<4096)
    let unmapped = RegionEvent.unmapped(region: "r", range: 0..<4096)
    let moved = RegionEvent.moved(region: "r", range: 4096..<8192, to: 0x1000)
    #expect([discarded, unmapped, moved].map(\.kind) == [.discarded, .unmapped, .moved])
    #expect([discarded, unmapped, moved].map(\.destination) == [nil, nil, 0x1000])
    #expect(moved.region == "r")
    #expect(moved.range == 4096..<8192)
    #expect(discarded != unmapped)
    #expect("\(moved)" == "region 'r', offsets 4096..<8192: moved to 0x1000")
  }

  @Test("An error tells its code, and what belongs to the code")
  func errors() {
    let ends = SelfDeadlock(region: "a", range: 0..<1, touchedRegion: "b", touchedOffset: 0)
    let all: [(ResolutionError, ResolutionError.Code)] = [
      (.answerTooShort(produced: 1, wanted: 2), .answerTooShort),
      (.answerTooLong(produced: 3, wanted: 2), .answerTooLong),
      (.lentLazyMemory, .lentLazyMemory), (.refused(.noMemory), .refused), (.resolveTimedOut, .resolveTimedOut),
      (.regionClosed, .regionClosed), (.timeoutExceeded(.seconds(1)), .timeoutExceeded),
      (.memoryMoved, .memoryMoved), (.deadlock(ends), .deadlock), (.providerStuck(callCount: 2), .providerStuck),
    ]
    #expect(Set(all.map(\.1)).count == all.count)
    for (error, code) in all {
      #expect(error.code == code)
      #expect((error.errno != nil) == (code == .refused))
      #expect((error.producedByteCount != nil) == (code == .answerTooShort || code == .answerTooLong))
      #expect((error.wantedByteCount != nil) == (code == .answerTooShort || code == .answerTooLong))
      #expect((error.timeout != nil) == (code == .timeoutExceeded))
      #expect((error.deadlock != nil) == (code == .deadlock))
      #expect((error.stuckCallCount != nil) == (code == .providerStuck))
    }
    #expect(ResolutionError.answerTooShort(produced: 1, wanted: 2).producedByteCount == 1)
    #expect(ResolutionError.answerTooLong(produced: 3, wanted: 2).wantedByteCount == 2)
    #expect(ResolutionError.refused(.noMemory).errno == .noMemory)
    #expect(ResolutionError.timeoutExceeded(.seconds(1)).timeout == .seconds(1))
    #expect(ResolutionError.deadlock(ends).deadlock == ends)
    #expect(ResolutionError.providerStuck(callCount: 1).stuckCallCount == 1)
    #expect(ResolutionError.providerStuck(callCount: 1).description.hasPrefix("1 call of this provider has not"))
    #expect("\(ResolutionError.Code.refused)" == "refused")
    #expect("\(FaultRuntimeError.Code.regionClosed)" == "regionClosed")
    #expect("\(FileProviderError.Code.invalidPath)" == "invalidPath")
  }
}
