import CTestSupport
import CUFFD
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// Checks the report on this host against what the library does on it.
@Suite("Host report", .timeLimit(.minutes(6)))
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

  /// Maps regions and checks that their deliveries are those of `pick`, and those of the rules for timeouts.
  private static func checkRegions(of runtime: FaultRuntime, against pick: HostPick) throws {
    #expect(runtime.descriptor == pick.descriptor)
    for permits in [true, false] {
      let provider = patternProvider(mayBlock: !permits, inFaultingThread: permits)
      let expected = permits ? pick.delivery : pick.deliveryOfOtherProviders
      #expect(runtime.deliveryChoice(for: provider).delivery == expected)
      let region = try runtime.map(provider, byteCount: pageBytes)
      #expect(region.delivery == expected)
      #expect(mismatches(in: region) == [])
      let options = RegionOptions(timeout: .seconds(60))
      if pick.deliveryOfOtherProviders == .eventLoop {
        #expect(runtime.deliveryChoice(for: provider, options: options).delivery == .eventLoop)
        #expect(try runtime.map(provider, byteCount: pageBytes, options: options).delivery == .eventLoop)
      } else {
        #expect(runtime.deliveryChoice(for: provider, options: options).reason.contains("is an error"))
        let error = #expect(throws: FaultRuntimeError.self) {
          try runtime.map(provider, byteCount: pageBytes, options: options)
        }
        #expect(error?.code == .providerForbidsDelivery)
      }
    }
  }

  /// Makes runtimes and regions, and checks that they can be made exactly where `report` says so.
  private static func checkPicks(of report: HostReport) throws {
    for (pick, needsSystemCalls) in [(report.userModeFaults, false), (report.kernelModeFaults, true)] {
      let runtime = try? FaultRuntime(
        FaultRuntimeConfiguration(needsSystemCalls: needsSystemCalls, onNotice: { _ in }))
      #expect((runtime != nil) == (pick.delivery != nil))
      if let runtime { try checkRegions(of: runtime, against: pick) }
    }
  }

  @Test("The picks are what map does")
  func picks() throws { try Self.checkPicks(of: HostReport()) }

  @Test(
    "The picks are what map does where less is allowed: by a filter, or by one with no device either",
    arguments: [false, true])
  func fewerPicks(hidesDevice: Bool) async {
    await #expect(processExitsWith: .success) { [hidesDevice] in
      #expect((hidesDevice ? cts_hide_userfaultfd(EPERM) : cts_deny_userfaultfd(EPERM)) == 0)
      let report = HostReport()
      #expect(report.userModeFaults.delivery != nil)
      if hidesDevice { #expect(report.userModeFaults.delivery == .sigsegv) }
      let warns = report.warnings.contains { $0.contains("guard markers") }
      #expect(warns == (report.userModeFaults.delivery == .sigsegv && !cuffd_has_guards()))
      try HostReportTests.checkPicks(of: report)
    }
  }

  @Test("Asking leaves nothing behind: no descriptor, no child, no signal")
  func leavesNothing() async {
    await #expect(processExitsWith: .success) {
      // The first report may open descriptors that stay open.
      _ = HostReport()
      let before = descriptorKinds()
      for _ in 0..<10 { _ = HostReport() }
      let after = descriptorKinds()
      // Swift's concurrency runtime opens a few descriptors at any time.
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
      #expect(!report.autoWorks)
      #expect(report.userModeFaults.reason.contains("kills"))
    }
    await #expect(processExitsWith: .signal(SIGSYS)) {
      #expect(cts_kill_for_userfaultfd() == 0)
      _ = try? FaultRuntime()
    }
  }

  @Test("A sandbox that answers system calls in a handler of SIGSYS is heard, and the program goes on")
  func trapped() async {
    await #expect(processExitsWith: .success) {
      #expect(cts_trap_userfaultfd(EPERM) == 0)
      let error = #expect(throws: FaultRuntimeError.self) {
        try FaultRuntime(FaultRuntimeConfiguration(descriptorChoice: .only(.userModeOnly)))
      }
      #expect(error?.code == .userfaultfdUnavailable)
    }
  }

  @Test(
    "What the kernel says of the process is read where its first thread has ended as well",
    .enabled(if: !Host.isSanitized, SkipReason.sanitizer))
  func withoutFirstThread() {
    let status = cts_forked_without_first_thread {
      // This is a forked child, so nothing here allocates or takes a lock of Swift's runtime.
      var facts = cuffd_memory()
      unsafe cuffd_memory_facts(&facts)
      guard facts.mappings > 10, facts.address_space > 0 else { return 1 }
      var state: UInt8 = 0
      let page = UInt64(cts_page_of_stack())
      return unsafe cuffd_page_states(page, cuffd_page_size(), &state) == 0 && state == 1 ? 0 : 2
    }
    #expect(status == 0)
  }

  @Test(
    "The error of a runtime that wants one way names the filter, and advises no other way that it forbids as well",
    .enabled(if: Host.isRoot, SkipReason.root),
    arguments: Host.allowsFullToAll ? ["EPERM", "EACCES"] : [nil, "EPERM", "EACCES"])
  func filterOrRights(answer: String?) async {
    await #expect(processExitsWith: .success) { [answer = answer as String?] in
      #expect(cts_become_nobody() == 0)
      let isFiltered = answer != nil
      if let answer { #expect(cts_deny_userfaultfd(answer == "EPERM" ? EPERM : EACCES) == 0) }
      var configuration = FaultRuntimeConfiguration(delivery: .eventLoop)
      configuration.descriptorChoice = .only(.full)
      let error = #expect(throws: FaultRuntimeError.self) { try FaultRuntime(configuration) }
      #expect(error?.advice?.contains("a seccomp filter answers userfaultfd(2) with \(answer ?? "")") == isFiltered)
      #expect(error?.advice?.contains("accept a user-mode-only descriptor") == !isFiltered)
    }
  }

  @Test("The error of a runtime says what the report says")
  func sameWords() async {
    await #expect(processExitsWith: .success) {
      #expect(cts_deny_userfaultfd(ENOSYS) == 0)
      let error = #expect(throws: FaultRuntimeError.self) {
        try FaultRuntime(FaultRuntimeConfiguration(descriptorChoice: .only(.userModeOnly)))
      }
      let finding = HostReport().ways.first { $0.kind == .userModeOnly }?.findings.first
      #expect(finding?.cause == .seccompFilter)
      #expect(finding.map { error?.advice?.hasPrefix($0.text) == true } == true)
    }
  }
}
