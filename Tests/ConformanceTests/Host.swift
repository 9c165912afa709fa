import CTestSupport
import CUFFD
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// What of the host only these tests ask for.
extension Host {
  /// EVENT_FORK makes `UFFDIO_API` fail for whoever may not use it.
  static let forkEvents = (try? Userfaultfd.open(DescriptorKind.allCases, wanting: .eventFork)) != nil
  static let hugePageSize = Int(cuffd_huge_page_size())
  static let pins: Bool = {
    let page = Memory(.anon, pages: 1)
    let pin = cts_pin(page.range.start, page.range.byteCount)
    if pin >= 0 { close(pin) }
    return pin >= 0
  }()
  /// Linux 6.13, which takes the protection off what `mremap` moves out of a registration.
  static let dropsProtectionOnRemap: Bool = {
    var name = utsname()
    guard unsafe uname(&name) == 0 else { return false }
    let release = unsafe withUnsafeBytes(of: &name.release) { unsafe String(decoding: $0, as: UTF8.self) }
    let numbers = release.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
    return numbers.count == 2 && (numbers[0], numbers[1]) >= (6, 13)
  }()
}

/// Pages of hugetlbfs. The kernel keeps a pool of them, empty by default; a superuser may let it take more while they are
/// used, which puts nothing aside.
enum HugePages {
  /// As many as the tests use at a time, with room to spare.
  static let needed = 64
  private static let limitPath = "/proc/sys/vm/nr_overcommit_hugepages"

  /// Bytes in one; 0 where there are none.
  static let size = (meminfo("Hugepagesize") ?? 0) * 1024

  /// Pages of 32 MiB and more would ask too much memory of a machine for what they show.
  static let canBeHad: Bool = {
    guard size > 0, size < 32 << 20 else { return false }
    if (meminfo("HugePages_Free") ?? 0) - (meminfo("HugePages_Rsvd") ?? 0) >= needed { return true }
    return unsafe Glibc.access(limitPath, W_OK) == 0 && (meminfo("MemAvailable") ?? 0) * 1024 > 4 * needed * size
  }()

  private static func meminfo(_ name: String) -> Int? { number(of: name, in: "/proc/meminfo") }

  static var limit: Int { Int(lines(limitPath).first ?? "") ?? 0 }

  /// Does nothing for an ordinary user, whose pool is large enough where his tests run.
  static func setLimit(_ limit: Int) {
    guard let file = unsafe fopen(limitPath, "w") else { return }
    unsafe fputs(String(limit), file)
    unsafe fclose(file)
  }
}

/// Lets the kernel take huge pages while a suite runs.
struct HugePageAllowance: SuiteTrait, TestScoping {
  var isRecursive: Bool { false }

  @concurrent
  func provideScope(
    for test: Test, testCase: Test.Case?, performing body: @concurrent @Sendable () async throws -> Void
  ) async throws {
    guard HugePages.canBeHad else { return try await body() }
    let before = HugePages.limit
    HugePages.setLimit(max(before, HugePages.needed))
    defer { HugePages.setLimit(before) }
    try await body()
  }
}

/// The cases of the kernel's `uffd-unit-tests` that the library can express, under the kernel's names, each with every kind
/// of memory that the kernel has and this host offers. `docs/conformance.md` is the list.
///
/// One at a time: the kernel's huge pages are few, and most of the tests start a process.
@Suite("uffd-unit-tests", .serialized, .timeLimit(.minutes(6)), HugePageAllowance())
struct UffdUnitTests {
  @Test("Every case runs with hugetlb too", .enabled(if: HugePages.canBeHad, SkipReason.hugetlb))
  func hugetlb() throws {
    let memory = try Memory(mapping: .hugetlb, pages: 1)
    #expect(memory.pageBytes == HugePages.size)
    #expect(MemoryKind.here == MemoryKind.allCases)
  }
}
