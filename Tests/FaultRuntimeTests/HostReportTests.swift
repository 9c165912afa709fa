import CTestSupport
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// The report on this very host, against what the library does on it.
@Suite("Host report", .timeLimit(.minutes(1)))
struct HostReportTests {
  @Test("A way is open where a descriptor can be had, and only there")
  func ways() {
    let report = HostReport()
    #expect(report.ways.map(\.kind) == DescriptorKind.allCases)
    for way in report.ways {
      #expect(way.isAvailable == ((try? Userfaultfd.probe(way.kind)) != nil))
      #expect(way.isAvailable == way.findings.isEmpty)
      #expect(way.findings.allSatisfy { $0.cause != .unknown })
    }
    #expect(report.pageSize == pageBytes)
    let available = report.features.filter { $0.isAvailable == true }.reduce(into: UInt64(0)) {
      $0 |= 1 << UInt64($1.bit)
    }
    #expect(available == Host.features.rawValue)
  }

  @Test("The picks are what a runtime does")
  func picks() throws {
    let report = HostReport()
    let runtime = try? FaultRuntime()
    #expect((runtime != nil) == (report.userModeFaults.delivery != nil))
    if let runtime {
      #expect(runtime.descriptor == report.userModeFaults.descriptor)
      #expect(
        runtime.deliveryChoice(for: patternProvider(inFaultingThread: true)).delivery == report.userModeFaults.delivery)
      #expect(
        runtime.deliveryChoice(for: patternProvider(mayBlock: true)).delivery
          == report.userModeFaults.deliveryOfOtherProviders)
    }
    let serving = try? FaultRuntime(FaultRuntimeConfiguration(needsSystemCalls: true))
    #expect((serving != nil) == (report.kernelModeFaults.delivery != nil))
    if let serving {
      #expect(serving.descriptor == report.kernelModeFaults.descriptor)
      #expect(
        serving.deliveryChoice(for: patternProvider(inFaultingThread: true)).delivery
          == report.kernelModeFaults.delivery)
    }
  }

  @Test("Asking leaves nothing behind: no descriptor, no child, no signal")
  func leavesNothing() async {
    await #expect(processExitsWith: .success) {
      // The first one may open what stays open.
      _ = HostReport()
      let before = descriptorKinds()
      for _ in 0..<10 { _ = HostReport() }
      let after = descriptorKinds()
      // The concurrency runtime opens a few when it likes.
      for (kind, count) in after { #expect(count - before[kind, default: 0] < 10, "\(kind): \(before), \(after)") }
      var status: CInt = 0
      #expect(unsafe waitpid(-1, &status, CInt(0x4000_0000) | WNOHANG) == -1 && errno == ECHILD)
      var pending = sigset_t()
      unsafe sigpending(&pending)
      #expect(unsafe sigismember(&pending, SIGCHLD) == 0)
    }
  }

  @Test("A filter that kills ends the try, not the program")
  func killed() async {
    await #expect(processExitsWith: .success) {
      #expect(cts_kill_for_userfaultfd() == 0)
      let report = HostReport()
      for way in report.ways where !way.kind.isOfDevice {
        #expect(!way.isAvailable)
        #expect(way.errno == nil)
        #expect(way.findings.first?.cause == .seccompFilter)
      }
    }
  }

  @Test("The error of a runtime says what the report says")
  func sameWords() async {
    await #expect(processExitsWith: .success) {
      #expect(cts_deny_userfaultfd(ENOSYS) == 0)
      let error = #expect(throws: FaultRuntimeError.self) {
        try FaultRuntime(FaultRuntimeConfiguration(descriptor: .only(.userModeOnly)))
      }
      let finding = HostReport().ways.first { $0.kind == .userModeOnly }?.findings.first
      #expect(finding?.cause == .seccompFilter)
      #expect(finding.map { error?.advice?.hasPrefix($0.text) == true } == true)
    }
  }
}
