import CTestSupport
import CUFFD
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// Properties of the host that only these tests need.
extension Host {
  /// Whether this process may use EVENT_FORK. If not, `UFFDIO_API` fails with that feature.
  static let forkEvents = (try? Userfaultfd.open(DescriptorKind.allCases, wanting: .eventFork)) != nil
  static let hugePageSize = Int(cuffd_huge_page_size())
  static let pins: Bool = {
    let page = Memory(.anon, pages: 1)
    let pin = cts_pin(page.range.start, page.range.byteCount)
    if pin >= 0 { close(pin) }
    return pin >= 0
  }()
  /// Whether `mremap` removes the protection from memory that it moves out of a registration, as since Linux 6.13.
  static let dropsProtectionOnRemap: Bool = {
    var name = utsname()
    guard unsafe uname(&name) == 0 else { return false }
    let release = unsafe withUnsafeBytes(of: &name.release) { unsafe String(decoding: $0, as: UTF8.self) }
    let numbers = release.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
    return numbers.count == 2 && (numbers[0], numbers[1]) >= (6, 13)
  }()
}

/// Pages of hugetlbfs. The kernel keeps a pool of them, which is empty by default. A superuser may allow it to take
/// more pages while they are used, which does not reserve memory.
enum HugePages {
  /// The number of pages that the tests use at a time, with room to spare.
  static let needed = 64
  private static let limitPath = "/proc/sys/vm/nr_overcommit_hugepages"

  /// The number of bytes in a huge page; 0 if there are none.
  static let size = (meminfo("Hugepagesize") ?? 0) * 1024

  /// Whether the tests can have huge pages. Pages of 32 MiB and more are not used, because they would take too much
  /// memory for what they test.
  static let canBeHad: Bool = {
    guard size > 0, size < 32 << 20 else { return false }
    if (meminfo("HugePages_Free") ?? 0) - (meminfo("HugePages_Rsvd") ?? 0) >= needed { return true }
    return unsafe Glibc.access(limitPath, W_OK) == 0 && (meminfo("MemAvailable") ?? 0) * 1024 > 4 * needed * size
  }()

  private static func meminfo(_ name: String) -> Int? { number(of: name, in: "/proc/meminfo") }

  static var limit: Int { Int(lines(limitPath).first ?? "") ?? 0 }

  /// Sets the limit. Does nothing for an ordinary user; if such a user's tests run, the pool is large enough.
  static func setLimit(_ limit: Int) {
    guard let file = unsafe fopen(limitPath, "w") else { return }
    unsafe fputs(String(limit), file)
    unsafe fclose(file)
  }
}

/// A trait that allows the kernel to take huge pages while a suite runs.
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

/// The cases of the kernel's `uffd-unit-tests` that the library can express, under the kernel's names. Each case runs
/// with every kind of memory that the kernel's case has and that this host offers. `docs/conformance.md` lists them.
///
/// The tests run one at a time, because there are few huge pages and most of the tests start a process.
@Suite("uffd-unit-tests", .serialized, .timeLimit(.minutes(6)), HugePageAllowance())
struct UffdUnitTests {
  @Test("Every case runs with hugetlb too", .enabled(if: HugePages.canBeHad, SkipReason.hugetlb))
  func hugetlb() throws {
    let memory = try Memory(mapping: .hugetlb, pages: 1)
    #expect(memory.pageBytes == HugePages.size)
    #expect(MemoryKind.here == MemoryKind.allCases)
  }
}
