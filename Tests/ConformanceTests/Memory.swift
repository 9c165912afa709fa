import CTestSupport
import CUFFD
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FaultRuntime

/// The kinds of memory that the kernel's tests distinguish.
enum MemoryKind: String, CaseIterable, Codable, Sendable, CustomTestStringConvertible {
  case anon
  case shmem
  case shmemPrivate = "shmem-private"
  case hugetlb
  case hugetlbPrivate = "hugetlb-private"

  /// The kinds that this host offers. If some are missing, `UffdUnitTests.hugetlb` is skipped.
  static let here = allCases.filter { !$0.isHuge || HugePages.canBeHad }
  static let sharedHere = here.filter(\.isShared)

  var testDescription: String { rawValue }
  var isHuge: Bool { self == .hugetlb || self == .hugetlbPrivate }
  var isShared: Bool { self == .shmem || self == .hugetlb }
  var pageBytes: Int { isHuge ? HugePages.size : PageSize.ofHost().bytes }

  fileprivate var forC: cts_memory {
    switch self {
    case .anon: CTS_ANON
    case .shmem: CTS_SHMEM
    case .shmemPrivate: CTS_SHMEM_PRIVATE
    case .hugetlb: CTS_HUGETLB
    case .hugetlbPrivate: CTS_HUGETLB_PRIVATE
    }
  }
}

/// Memory of a kind, in pages of that kind.
final class Memory: Sendable {
  let kind: MemoryKind
  let pageBytes: Int
  let range: AddressRange
  /// A second mapping of the same pages; 0 for a private kind.
  let alias: UInt
  /// False after `move` and `unmap`, when the addresses may belong to other memory.
  private let isOurs = Atomic<Bool>(true)

  init(mapping kind: MemoryKind, pages: Int, alignment: Int = 1) throws(HostCallError) {
    self.kind = kind
    pageBytes = kind.pageBytes
    var address: UInt = 0
    var alias: UInt = 0
    let byteCount = pages * pageBytes
    let result = unsafe cts_map_memory(kind.forC, byteCount, max(alignment, pageBytes), &address, &alias)
    if let errno = KernelErrno(returned: result) { throw HostCallError(call: "mmap", errno: errno) }
    self.alias = alias
    range = AddressRange(start: address, byteCount: byteCount)
  }

  convenience init(_ kind: MemoryKind, pages: Int, alignment: Int = 1) {
    do { try self.init(mapping: kind, pages: pages, alignment: alignment) } catch { fatalError("\(error)") }
  }

  deinit {
    _ = unmap()
    if alias != 0 { _ = cuffd_unmap(UInt64(alias), range.byteCount) }
  }

  func unmap() -> KernelErrno? {
    guard isOurs.exchange(false, ordering: .relaxed) else { return nil }
    return KernelErrno(returned: cuffd_unmap(UInt64(range.start), range.byteCount))
  }

  /// Moves the memory to `place` with mremap(2).
  func move(to place: Reservation) -> KernelErrno? {
    isOurs.store(false, ordering: .relaxed)
    return KernelErrno(returned: cts_move_mapping(range.start, range.byteCount, place.range.start))
  }

  func pages(_ pages: Range<Int>) -> AddressRange {
    AddressRange(start: range.start + UInt(pages.lowerBound * pageBytes), byteCount: pages.count * pageBytes)
  }

  func page(_ index: Int) -> AddressRange { pages(index..<(index + 1)) }

  /// Returns the same page in the second mapping.
  func aliasPage(_ index: Int) -> AddressRange {
    AddressRange(start: alias + UInt(index * pageBytes), byteCount: pageBytes)
  }

  var pointer: UnsafeRawPointer { unsafe UnsafeRawPointer(bitPattern: range.start)! }

  /// Keeps forks of other tests from sharing the pages, because shared pages cannot be moved.
  func keepFromChildren() {
    let start = unsafe UnsafeMutableRawPointer(bitPattern: range.start)
    unsafe madvise(start, range.byteCount, MADV_DONTFORK)
  }

  /// Discards the page, so that it is missing again. A shared page is also removed from its file.
  func drop(_ index: Int) -> KernelErrno? { drop(page(index).start) }

  func drop(_ address: UInt) -> KernelErrno? {
    let start = unsafe UnsafeMutableRawPointer(bitPattern: address)
    let result = unsafe madvise(start, pageBytes, kind.isShared ? MADV_REMOVE : MADV_DONTNEED)
    return result == 0 ? nil : KernelErrno(rawValue: errno)
  }
}

/// A place that memory can be moved to. `deinit` unmaps whatever is there.
final class Reservation: Sendable {
  let range: AddressRange
  private let pageBytes: Int

  init(of memory: Memory) throws {
    var address: UInt = 0
    try #require(unsafe cts_reserve(memory.range.byteCount, memory.pageBytes, &address) == 0)
    range = AddressRange(start: address, byteCount: memory.range.byteCount)
    pageBytes = memory.pageBytes
  }

  deinit { _ = cuffd_unmap(UInt64(range.start), range.byteCount) }

  func page(_ index: Int) -> AddressRange {
    AddressRange(start: range.start + UInt(index * pageBytes), byteCount: pageBytes)
  }
}

extension AddressRange {
  func fill(_ value: UInt8) {
    unsafe memset(UnsafeMutableRawPointer(bitPattern: start)!, CInt(value), byteCount)
  }

  /// Returns whether every byte of the range reads as `value`. All pages must be present.
  func holdsOnly(_ value: UInt8) -> Bool {
    let bytes = unsafe UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: start), count: byteCount)
    return unsafe bytes[0] == value && memcmp(bytes.baseAddress!, bytes.baseAddress! + 1, byteCount - 1) == 0
  }

  /// Whether the kernel's page table marks the first page as write-protected.
  var isWriteProtected: Bool { bits & CTS_PAGE_WRITE_PROTECTED != 0 }
  var isExclusive: Bool { bits & CTS_PAGE_EXCLUSIVE != 0 }

  private var bits: CInt {
    let bits = cts_page_bits(start)
    if bits < 0 { Issue.record("pagemap: \(KernelErrno(rawValue: -bits))") }
    return bits
  }

  /// Returns how many bytes of the range are mapped as huge pages.
  func hugeByteCount() -> Int {
    parts(of: start..<end, with: CUFFD_PAGE_IS_HUGE).reduce(0) { $0 + $1.count }
  }
}
