import CTestSupport
import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

private let coreSize = __rlimit_resource_t(4)  // RLIMIT_CORE

@Suite("Core dumps", .serialized, .timeLimit(.minutes(6)))
struct CoreDumpTests {
  /// Returns for each mapping of the region whether the kernel leaves it out of core dumps.
  private func leftOut(_ region: LazyRegion) -> Set<Bool> {
    let mappings = Mapping.all.filter { region.core.range.contains($0.range.lowerBound) }
    return Set(mappings.map { $0.flags.contains("dd") })
  }

  @Test(
    "They contain a region, unless its options say otherwise", arguments: Delivery.ofRegions,
    [true, false])
  func option(delivery: Delivery, isIn: Bool) throws {
    #expect(RegionOptions().isInCoreDumps)
    let runtime = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery))
    let region = try runtime.map(
      patternProvider(inFaultingThread: true), byteCount: 64 * pageBytes, options: RegionOptions(isInCoreDumps: isIn))
    #expect(leftOut(region) == [!isIn])
    for page in [0, 3, 40] { #expect(region.access(page * pageBytes) == .byte(expectedByte(page * pageBytes))) }
    #expect(leftOut(region) == [!isIn])
  }

  /// Whether the kernel writes a dump into the working directory of the process.
  private static let areFiles: Bool = {
    var limit = rlimit()
    guard unsafe getrlimit(coreSize, &limit) == 0, limit.rlim_max == rlim_t.max else { return false }
    return lines("/proc/sys/kernel/core_pattern").first.map { !"|/".contains($0.prefix(1)) } ?? false
  }()

  /// What the child that dies knows.
  private final class Dying {
    let delivery: Delivery
    let isIn: Bool
    let folder: String
    /// Where the child writes the address of its region.
    let output: CInt

    init(_ delivery: Delivery, isIn: Bool, folder: String, output: CInt) {
      (self.delivery, self.isIn, self.folder, self.output) = (delivery, isIn, folder, output)
    }

    func die() throws {
      var limit = rlimit(rlim_cur: rlim_t.max, rlim_max: rlim_t.max)
      guard unsafe chdir(folder) == 0, unsafe setrlimit(coreSize, &limit) == 0 else { return }
      let region = try FaultRuntime(FaultRuntimeConfiguration(delivery: delivery)).map(
        patternProvider(inFaultingThread: true), byteCount: 4 << 30,
        options: RegionOptions(advice: .random, isInCoreDumps: isIn))
      for page in [0, 3] where region.access(page * pageBytes) != .byte(expectedByte(page * pageBytes)) { return }
      var address = region.address
      guard unsafe Glibc.write(output, &address, MemoryLayout<UInt>.size) == MemoryLayout<UInt>.size else { return }
      signal(SIGABRT, SIG_DFL)
      abort()
    }
  }

  // The process of an exit test may not have a core dump, so the child here is one of the tests' own process.
  @Test(
    "A dump has the pages that are resident, and takes no room for the others",
    .enabled(if: areFiles && !Host.isSanitized, SkipReason.coreDump), arguments: Delivery.ofRegions, [true, false])
  func dump(delivery: Delivery, isIn: Bool) throws {
    let folder = try TemporaryFolder()
    var ends: [CInt] = [0, 0]
    try #require(unsafe pipe(&ends) == 0)
    defer { for end in ends { close(end) } }
    let dying = Dying(delivery, isIn: isIn, folder: folder.path, output: ends[1])
    let status = unsafe cts_forked(
      { context in
        try? unsafe Unmanaged<Dying>.fromOpaque(context).takeUnretainedValue().die()
        return 1
      }, Unmanaged.passUnretained(dying).toOpaque())
    #expect(status == -SIGABRT)
    var address: UInt = 0
    try #require(unsafe Glibc.read(ends[0], &address, MemoryLayout<UInt>.size) == MemoryLayout<UInt>.size)
    let name = try #require(directory(folder.path).first { $0.hasPrefix("core") })
    let core = try CoreFile("\(folder.path)/\(name)")
    // The region is 4 GiB, and all else of the process is far less.
    #expect(core.allocatedByteCount < 2 << 30)
    for page in [0, 3] {
      let bytes = core.bytes(at: address + UInt(page * pageBytes), count: pageBytes)
      let range = (page * pageBytes)..<((page + 1) * pageBytes)
      #expect(isIn ? bytes == expectedBytes(range) : bytes == nil)
    }
  }
}

/// A core dump on a 64-bit machine (`elf(5)`).
private final class CoreFile {
  private let descriptor: CInt
  private var segments: [(address: UInt, byteCount: Int, offset: Int)] = []
  let allocatedByteCount: Int

  init(_ path: String) throws {
    descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    try #require(descriptor >= 0)
    var facts = stat()
    unsafe fstat(descriptor, &facts)
    allocatedByteCount = Int(facts.st_blocks) * 512
    var header = Elf64_Ehdr()
    try #require(unsafe pread(descriptor, &header, MemoryLayout<Elf64_Ehdr>.size, 0) == MemoryLayout<Elf64_Ehdr>.size)
    for index in 0..<Int(header.e_phnum) {
      var segment = Elf64_Phdr()
      let size = MemoryLayout<Elf64_Phdr>.size
      try #require(unsafe pread(descriptor, &segment, size, off_t(header.e_phoff) + off_t(index * size)) == size)
      if segment.p_type == PT_LOAD {
        segments.append((UInt(segment.p_vaddr), Int(segment.p_filesz), Int(segment.p_offset)))
      }
    }
  }

  deinit { close(descriptor) }

  /// Returns memory of the program that died; nil where the dump does not have it.
  func bytes(at address: UInt, count: Int) -> [UInt8]? {
    for segment in segments {
      guard address >= segment.address, address - segment.address <= UInt(segment.byteCount) else { continue }
      let start = Int(address - segment.address)
      guard start + count <= segment.byteCount else { continue }
      var bytes = [UInt8](repeating: 0, count: count)
      guard unsafe pread(descriptor, &bytes, count, off_t(segment.offset + start)) == count else { return nil }
      return bytes
    }
    return nil
  }
}
