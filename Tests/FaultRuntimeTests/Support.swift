import CTestSupport
import CUFFD
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

let pageBytes = PageSize.ofHost().bytes

extension Delivery {
  /// The deliveries in which the faulting thread runs the provider itself.
  static let inFaultingThread: [Delivery] = [.sigbus, .sigsegv]

  /// The deliveries that a region may get.
  static let ofRegions: [Delivery] = [.eventLoop, .sigbus, .sigsegv]

  /// The signal that reports a fault to the faulting thread.
  var signal: CInt { self == .sigsegv ? SIGSEGV : SIGBUS }
}

/// The thread that calls the provider.
enum Asker: CaseIterable {
  case handler, pool, faultingThread, protection

  var delivery: Delivery {
    switch self {
    case .handler, .pool: .eventLoop
    case .faultingThread: .sigbus
    case .protection: .sigsegv
    }
  }

  /// The permissions of a provider that this thread calls.
  var permissions: ProviderPermissions { self == .pool ? .inSignalHandler : .inMemory }
}

extension ProviderPermissions {
  /// The event loop calls the provider on the handler thread. The faulting thread must not call it.
  static let onHandler: ProviderPermissions = [.concurrentRequests, .handlerThread]
  /// The faulting thread may call the provider, and the event loop calls it on the pool.
  static let inSignalHandler: ProviderPermissions = [.concurrentRequests, .signalHandler]

  static func test(mayBlock: Bool, inFaultingThread: Bool) -> ProviderPermissions {
    let thread: ProviderPermissions = inFaultingThread ? .inSignalHandler : .standard
    return mayBlock ? thread : thread.union(.handlerThread)
  }
}

extension FaultRuntimeConfiguration {
  /// Regions whose missing pages are told by their protection, as before Linux 6.15. Notices are dropped.
  static var byProtection: FaultRuntimeConfiguration {
    var configuration = FaultRuntimeConfiguration(delivery: .sigsegv, onNotice: { _ in })
    configuration.guardsPages = false
    return configuration
  }
}

extension LazyRegion {
  var address: UInt { unsafe UInt(bitPattern: unsafeBytes.baseAddress) }

  /// Returns whether the page at `offset` is resident. A poisoned page is not.
  func isResident(_ offset: Int) -> Bool { core.memory.isThere(address + UInt(offset)) }

  /// The signal that a touch of a failed page raises.
  var failureSignal: CInt { core.memory.failureSignal }

  /// Returns the number of bytes of the region that the kernel's statistics count under this name.
  func kernelCount(_ name: String) -> Int {
    Mapping.all.first { $0.range.lowerBound == address }?.byteCounts[name] ?? 0
  }

  /// Reads one byte as a program would, but survives a signal.
  func access(_ offset: Int) -> Access { TestSupport.read(address + UInt(offset)) }
}

/// Returns the byte at `offset` of the source `seed`. It differs between neighbours, pages and sources, and is never
/// zero.
func expectedByte(_ offset: Int, seed: Int = 0) -> UInt8 { cts_expected_byte(bits(offset), bits(seed)) }

func expectedBytes(_ range: Range<Int>, seed: Int = 0) -> [UInt8] {
  unsafe [UInt8](unsafeUninitializedCapacity: range.count) { free, count in
    // An empty array has no address.
    if !range.isEmpty {
      unsafe cts_store_expected(free.baseAddress!, range.count, bits(range.lowerBound), bits(seed))
    }
    count = range.count
  }
}

private func bits(_ number: Int) -> UInt64 { UInt64(truncatingIfNeeded: number) }

extension PageBuffer {
  /// Appends the bytes of `expectedByte` to a buffer that has room for the request alone.
  mutating func appendExpected(_ request: PageRequest, seed: Int = 0) {
    unsafe appendUnsafely { free in
      unsafe cts_store_expected(free.baseAddress!, free.count, bits(request.offset), bits(seed))
      return free.count
    }
  }
}

/// Returns a provider of the bytes of `expectedByte`.
func patternProvider(
  seed: Int = 0, requestSize: RequestSize = .singlePage, mayBlock: Bool = false, inFaultingThread: Bool = false
) -> ClosureProvider {
  ClosureProvider(requestSize: requestSize, permissions: .test(mayBlock: mayBlock, inFaultingThread: inFaultingThread))
  {
    request, page in
    page.appendExpected(request, seed: seed)
    return .filled
  }
}

/// Reads every byte of a region, and returns the offsets at which it differs from `expectedByte`. Of a page that raises
/// a signal these are all offsets.
func mismatches(in region: LazyRegion, seed: Int = 0) -> [Int] {
  mismatches(in: region, 0..<region.byteCount, seed: seed)
}

/// Reads a part of a region that begins at a page, as `mismatches(in:seed:)` does with the whole.
func mismatches(in region: LazyRegion, _ range: Range<Int>, seed: Int = 0) -> [Int] {
  let bytes = unsafe region.unsafeBytes
  var found: [Int] = []
  for page in stride(from: range.lowerBound, to: range.upperBound, by: pageBytes) {
    let offsets = page..<min(page + pageBytes, range.upperBound)
    // An access that may fail is made where a signal does not end the process. The page is there for the others.
    guard region.access(page).isByte else {
      found += offsets
      continue
    }
    let start = unsafe bytes.baseAddress!.assumingMemoryBound(to: UInt8.self) + page
    var index = 0
    while true {
      index = unsafe cts_first_unexpected(start, index, offsets.count, bits(page), bits(seed))
      guard index < offsets.count else { break }
      found.append(page + index)
      index += 1
    }
  }
  return found
}

extension Access {
  var isByte: Bool { if case .byte = self { true } else { false } }
}

/// Returns whether every byte of a range that begins at a page comes in the end, in a region with a timeout. A busy
/// machine may be late for the timeout, which a retry cures.
func comes(_ range: Range<Int>? = nil, of region: LazyRegion) -> Bool {
  let range = range ?? 0..<region.byteCount
  return eventually {
    if mismatches(in: region, range).isEmpty { return true }
    _ = try? region.retry(range)
    return false
  }
}

/// Returns whether the memory after the exact end of the region, up to the page boundary, is zero.
func tailIsZero(_ region: LazyRegion) -> Bool {
  let end = (region.byteCount + pageBytes - 1) / pageBytes * pageBytes
  return (region.byteCount..<end).allSatisfy { region.access($0) == .byte(0) }
}

/// Anonymous memory that is not a region, for tests of the kernel wrappers.
final class Scratch: Sendable {
  let range: AddressRange

  init(pages: Int, writable: Bool = true) {
    var address: UnsafeMutableRawPointer?
    guard unsafe cuffd_map_anonymous(pages * pageBytes, writable, &address) == 0 else { fatalError("mmap failed") }
    range = AddressRange(start: UInt(bitPattern: address), byteCount: pages * pageBytes)
  }

  deinit { _ = cuffd_unmap(UInt64(range.start), range.byteCount) }

  func pages(_ pages: Range<Int>) -> AddressRange {
    AddressRange(start: range.start + UInt(pages.lowerBound * pageBytes), byteCount: pages.count * pageBytes)
  }

  func page(_ index: Int) -> AddressRange { pages(index..<(index + 1)) }

  var pointer: UnsafeRawPointer { unsafe UnsafeRawPointer(bitPattern: range.start)! }

  func fill(_ value: UInt8) {
    unsafe memset(UnsafeMutableRawPointer(bitPattern: range.start)!, CInt(value), range.byteCount)
  }
}

/// What threads reported, in order.
final class Log<Element: Sendable>: Sendable {
  private let list = Monitor<[Element]>([])
  func add(_ element: Element) { list.withLock { $0.append(element) } }
  var all: [Element] { list.withLock { $0 } }
}

/// The requests that a provider received.
typealias Requests = Log<PageRequest>

/// An error of a provider.
struct Refused: Error, Equatable {}

extension PageRequest {
  /// The pages of which the request wants all bytes, or the first ones.
  var pages: Range<Int> { (range.lowerBound / pageBytes)..<((range.upperBound + pageBytes - 1) / pageBytes) }
}

extension LazyRegion {
  /// The userfaultfd that serves this region; -1 if there is none.
  var descriptorNumber: CInt {
    (core.memory as? AnonymousMemory)?.userfaultfd.uffd.descriptor ?? -1
  }

  /// Fills a page without the runtime's knowledge, and wakes no thread.
  func fillBehindItsBack(_ index: Int, from scratch: Scratch) throws {
    let target = AddressRange(start: address + UInt(index * pageBytes), byteCount: pageBytes)
    if let memory = core.memory as? AnonymousMemory {
      return try unsafe memory.userfaultfd.uffd.copy(target, from: scratch.pointer, mode: .doNotWake)
    }
    let part = unsafe AnswerPart(target, .bytes(scratch.pointer, isStaged: true))
    let step = unsafe core.memory.place(part, after: 0, effort: .usual)
    guard step == .done else { throw ResolutionError.refused(.fileExists) }
  }
}
