import CTestSupport
import CUFFD
import Glibc
import Synchronization
import Testing

@testable import FaultRuntime

/// What this host allows. Tests that need more are skipped with a reason of this list; `.ci/run` fails on a skip that the
/// machine does not justify.
enum Host {
  static let kernelModeFaults = isAvailable(.full)
  static let userModeOnly = isAvailable(.userModeOnly)
  static let isRoot = geteuid() == 0
  /// Whether a sanitizer is built in, which needs mappings and memory of its own.
  static let isSanitized = unsafe dlsym(nil, "__tsan_init") != nil || dlsym(nil, "__asan_init") != nil
  /// Whether this process may open the device that keeps CPUs awake.
  static let cpuLatency = (try? CPULatencyHold()) != nil
  static let features: UserfaultfdFeatures =
    (try? Userfaultfd.open(DescriptorKind.allCases, wanting: []))?.available ?? []

  /// What the kernel's own rules say, without asking it for a descriptor.
  static func shouldAllow(_ kind: DescriptorKind) -> Bool {
    switch kind.kind {
    case .full: hasPtraceCapability || firstLine("/proc/sys/vm/unprivileged_userfaultfd") == "1"
    case .device, .deviceUserModeOnly: unsafe Glibc.access(Userfaultfd.devicePath, R_OK | W_OK) == 0
    case .userModeOnly: true
    }
  }

  private static var hasPtraceCapability: Bool {
    let line = lines("/proc/self/status").first { $0.hasPrefix("CapEff:") } ?? ""
    let mask = UInt64(line.split(whereSeparator: \.isWhitespace).last ?? "", radix: 16) ?? 0
    return mask & (1 << 19) != 0
  }

  private static func firstLine(_ path: String) -> String { lines(path).first ?? "" }

  private static func isAvailable(_ kind: DescriptorKind) -> Bool {
    (try? Userfaultfd.probe(kind)) != nil
  }
}

enum SkipReason {
  static let kernelModeFaults: Comment = "SKIP-KERNEL-MODE: needs a userfaultfd that serves system calls"
  static let root: Comment = "SKIP-ROOT: needs to change its user"
  static let poison: Comment = "SKIP-POISON: needs UFFDIO_POISON (Linux 6.6)"
  static let move: Comment = "SKIP-MOVE: needs UFFDIO_MOVE (Linux 6.8)"
  static let minorShmem: Comment = "SKIP-MINOR-SHMEM: needs minor faults on shared memory (Linux 5.14)"
  static let pagemapScan: Comment = "SKIP-PAGEMAP-SCAN: needs PAGEMAP_SCAN (Linux 6.7)"
  static let twoCPUs: Comment = "SKIP-CPUS: needs two CPUs"
  static let cpuLatency: Comment = "SKIP-CPU-LATENCY: needs to write /dev/cpu_dma_latency"
  static let sanitizer: Comment = "SKIP-SANITIZER: needs a process without a sanitizer"
  static let cgroup: Comment = "SKIP-CGROUP: needs to write a memory cgroup of the first version"
  static let writeProtect: Comment = "SKIP-WP: needs write protection (Linux 5.7)"
}

let pageBytes = PageSize.ofHost().bytes

extension Delivery {
  /// Those in which the thread that faulted runs the provider itself.
  static let inFaultingThread: [Delivery] = [.sigbus, .sigsegv]

  /// The signal that tells such a thread of its fault.
  var signal: CInt { self == .sigsegv ? SIGSEGV : SIGBUS }
}

/// Who asks the provider.
enum Asker: CaseIterable {
  case handler, pool, faultingThread, protection

  var delivery: Delivery {
    switch self {
    case .handler, .pool: .eventLoop
    case .faultingThread: .sigbus
    case .protection: .sigsegv
    }
  }

  /// What a provider permits that is asked by this one.
  var permissions: ProviderPermissions { self == .pool ? .inSignalHandler : .inMemory }
}

extension ProviderPermissions {
  /// The event loop asks on the handler thread, and nobody on the thread that faulted.
  static let onHandler: ProviderPermissions = [.concurrentRequests, .handlerThread]
  /// The thread that faulted may ask, and the event loop asks on the pool.
  static let inSignalHandler: ProviderPermissions = [.concurrentRequests, .signalHandler]

  static func test(mayBlock: Bool, inFaultingThread: Bool) -> ProviderPermissions {
    let thread: ProviderPermissions = inFaultingThread ? .inSignalHandler : .standard
    return mayBlock ? thread : thread.union(.handlerThread)
  }
}

/// What raw access to a byte did.
enum Access: Equatable {
  case byte(UInt8)
  case signal(CInt)
}

func read(_ address: UInt) -> Access {
  var value: UInt8 = 0
  let signal = unsafe cts_read_byte(address, &value)
  return signal == 0 ? .byte(value) : .signal(signal)
}

func write(_ value: UInt8, to address: UInt) -> Access {
  let signal = cts_write_byte(address, value)
  return signal == 0 ? .byte(value) : .signal(signal)
}

extension LazyRegion {
  var address: UInt { unsafe UInt(bitPattern: unsafeBytes.baseAddress) }

  /// Whether the page at `offset` is there; a poisoned one is not.
  func isResident(_ offset: Int) -> Bool { core.memory.isThere(address + UInt(offset)) }

  /// What a touch of a page that could not be produced raises.
  var failureSignal: CInt { core.memory.failureSignal }

  /// Bytes of the region that are in the kernel's statistics under this name.
  func kernelCount(_ name: String) -> Int {
    let start = String(address, radix: 16) + "-"
    var isOurs = false
    for line in lines("/proc/self/smaps") {
      if line.contains(" ---p ") || line.contains(" rw-p ") || line.contains(" r--p ") {
        isOurs = line.hasPrefix(start)
      }
      if isOurs, line.hasPrefix(name + ":") {
        return (Int(line.split(separator: " ").dropFirst().first ?? "") ?? 0) * 1024
      }
    }
    return 0
  }

  /// Reads one byte as a program would, but survives the signal.
  func access(_ offset: Int) -> Access { FaultRuntimeTests.read(address + UInt(offset)) }
}

/// The byte that belongs at `offset` of the source `seed`: different for neighbours, pages and sources, and never zero.
func expectedByte(_ offset: Int, seed: Int = 0) -> UInt8 {
  var x = UInt64(truncatingIfNeeded: offset) &+ UInt64(truncatingIfNeeded: seed) &* 0x9e37_79b9
  x = (x ^ (x >> 12)) &* 0xff51_afd7_ed55_8ccd
  x ^= x >> 29
  return UInt8(truncatingIfNeeded: x % 255) + 1
}

func expectedBytes(_ range: Range<Int>, seed: Int = 0) -> [UInt8] { range.map { expectedByte($0, seed: seed) } }

/// A provider whose every byte is known.
func patternProvider(
  seed: Int = 0, requestSize: RequestSize = .singlePage, mayBlock: Bool = false, inFaultingThread: Bool = false
) -> ClosureProvider {
  ClosureProvider(requestSize: requestSize, permissions: .test(mayBlock: mayBlock, inFaultingThread: inFaultingThread))
  {
    request, page in
    // A plain loop, because the sanitizers make everything else slow.
    unsafe page.appendUnsafely { free in
      var offset = request.offset
      for index in 0..<free.count {
        unsafe free[index] = expectedByte(offset, seed: seed)
        offset += 1
      }
      return free.count
    }
    return .filled
  }
}

/// Offsets that differ between the bytes of a region and what belongs there. Reads every byte.
func mismatches(in region: LazyRegion, seed: Int = 0) -> [Int] {
  let bytes = region.bytes
  var found: [Int] = []
  for offset in 0..<bytes.byteCount
  where unsafe bytes.unsafeLoad(fromByteOffset: offset, as: UInt8.self) != expectedByte(offset, seed: seed) {
    found.append(offset)
  }
  return found
}

/// Whether the memory behind the exact end of the region, up to the page boundary, is zero.
func tailIsZero(_ region: LazyRegion) -> Bool {
  let end = (region.byteCount + pageBytes - 1) / pageBytes * pageBytes
  return (region.byteCount..<end).allSatisfy { region.access($0) == .byte(0) }
}

/// A gate that holds whoever waits at it until it is opened. Waiting has a time limit.
final class Gate: Sendable {
  private let state = Monitor(false)

  func open() { state.withLock { $0 = true } }

  func wait() {
    _ = eventually { state.withLock { $0 } }
  }
}

/// Polls until `condition` holds, for at most half a minute. Returns whether it does.
@discardableResult
func eventually(_ condition: () -> Bool) -> Bool {
  let deadline = ContinuousClock.now + .seconds(30)
  while !condition() {
    if ContinuousClock.now > deadline { return false }
    sched_yield()
  }
  return true
}

/// A thread, because a blocked task would take a thread of the pool that the test needs itself. Not a `FaultThread`: those
/// block signals, and a fault that fails must reach the handler of `cts_read_byte`.
final class TestThread: Sendable {
  private let done = Atomic<Bool>(false)
  private let handle = Monitor(pthread_t())

  init(_ body: @escaping @Sendable () -> Void) {
    final class Start: Sendable {
      let body: @Sendable () -> Void
      init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    let start = unsafe Unmanaged.passRetained(
      Start { [self] in
        body()
        done.store(true, ordering: .releasing)
      })
    let result = handle.withLock { handle in
      unsafe pthread_create(
        &handle, nil,
        { context in
          unsafe Unmanaged<Start>.fromOpaque(context!).takeRetainedValue().body()
          return nil
        }, start.toOpaque())
    }
    precondition(result == 0, "cannot start a thread")
  }

  /// Waits for the end of the thread, with a time limit. Returns whether it came.
  @discardableResult
  func join() -> Bool {
    guard eventually({ done.load(ordering: .acquiring) }) else { return false }
    pthread_join(handle.withLock { $0 }, nil)
    return true
  }
}

/// The lines of a small text file; none where it cannot be read.
func lines(_ path: String) -> [String] {
  guard let file = unsafe fopen(path, "r") else { return [] }
  defer { unsafe fclose(file) }
  var lines: [String] = []
  var line = [CChar](repeating: 0, count: 512)
  while unsafe fgets(&line, CInt(line.count), file) != nil {
    let text = unsafe line.withUnsafeBufferPointer { unsafe String(cString: $0.baseAddress!) }
    lines.append(text.hasSuffix("\n") ? String(text.dropLast()) : text)
  }
  return lines
}

/// The names in a directory.
func directory(_ path: String) -> [String] {
  guard let directory = unsafe opendir(path) else { return [] }
  defer { unsafe closedir(directory) }
  var names: [String] = []
  while let entry = unsafe readdir(directory) {
    let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
      unsafe $0.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
    }
    names.append(name)
  }
  return names
}

/// What `descriptorKinds` calls a userfaultfd.
let userfaultfdKind = "anon_inode:[userfaultfd]"

/// How many descriptors of each kind this process has: the kernel's name for what is behind them, without its number.
func descriptorKinds() -> [String: Int] {
  var kinds: [String: Int] = [:]
  for name in directory("/proc/self/fd") {
    var target = [CChar](repeating: 0, count: 512)
    guard unsafe readlink("/proc/self/fd/\(name)", &target, target.count - 1) > 0 else { continue }
    let text = unsafe target.withUnsafeBufferPointer { unsafe String(cString: $0.baseAddress!) }
    kinds[text.hasPrefix("anon_inode:") ? text : String(text.prefix { $0 != ":" }), default: 0] += 1
  }
  return kinds
}

/// Whether an event of this descriptor waits to be read. An unread fault hides it.
func hasUnreadEvent(_ descriptor: CInt) -> Bool {
  var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
  let isReadable = unsafe poll(&entry, 1, 0) == 1 && entry.revents & Int16(POLLIN) != 0
  // In this order, since the number of unread faults may only grow meanwhile.
  return isReadable && waiters(on: descriptor).unread == 0
}

/// Threads that wait in faults of this descriptor, and the messages among them that nobody has read, as the kernel counts
/// them.
func waiters(on descriptor: CInt) -> (unread: Int, all: Int) {
  var unread = 0
  var all = 0
  for line in lines("/proc/self/fdinfo/\(descriptor)") {
    let number = Int(line.split(whereSeparator: { !$0.isNumber }).first ?? "") ?? 0
    if line.hasPrefix("pending:") { unread = number }
    if line.hasPrefix("total:") { all = number }
  }
  return (unread, all)
}

/// A file in the temporary directory, gone with the object.
final class TemporaryFile: Sendable {
  let path: String

  init(bytes: [UInt8]) throws {
    var template = Array("/tmp/fault-runtime-XXXXXX".utf8CString)
    let descriptor = unsafe mkstemp(&template)
    try #require(descriptor >= 0)
    path = unsafe template.withUnsafeBufferPointer { unsafe String(cString: $0.baseAddress!) }
    var written = 0
    while written < bytes.count {
      let result = unsafe bytes.withUnsafeBytes {
        unsafe Glibc.write(descriptor, $0.baseAddress! + written, $0.count - written)
      }
      try #require(result > 0)
      written += result
    }
    close(descriptor)
  }

  deinit { unsafe unlink(path) }
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

/// The requests that a provider got, in order.
final class Requests: Sendable {
  private let list = Monitor<[PageRequest]>([])
  func add(_ request: PageRequest) { list.withLock { $0.append(request) } }
  var all: [PageRequest] { list.withLock { $0 } }
}

extension LazyRegion {
  /// The userfaultfd that serves this region.
  var descriptorNumber: CInt {
    (core.memory as? AnonymousMemory)?.userfaultfd.uffd.descriptor ?? -1
  }

  /// Fills a page as somebody else would, and wakes nobody.
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
