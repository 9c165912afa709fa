import Archive
import FaultRuntime
import Glibc
import Testing

@Suite("Core dumps", .serialized, .timeLimit(.minutes(6)))
struct CoreDumpTests {
  /// Whether the kernel writes a dump into the working directory of a process that dies.
  private static let areFiles: Bool = {
    var limit = rlimit()
    guard getrlimit(__rlimit_resource_t(4), &limit) == 0, limit.rlim_max == rlim_t.max else { return false }
    guard let pattern = try? text("/proc/sys/kernel/core_pattern") else { return false }
    return pattern.hasPrefix("core") && !pattern.contains("/")
  }()

  /// Without guard markers (Linux 6.15), a dump makes zeros of the missing pages of `sigsegv`, and has them.
  private static let hasGuards: Bool = {
    guard let release = try? text("/proc/sys/kernel/osrelease") else { return false }
    let version = release.split(separator: ".").prefix(2).compactMap { Int($0) }
    return version.count == 2 && (version[0], version[1]) >= (6, 15)
  }()

  /// Returns the beginning of a file.
  private static func text(_ path: String) throws -> String {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    try #require(file >= 0)
    defer { close(file) }
    var bytes = [UInt8](repeating: 0, count: 256)
    let count = read(file, &bytes, bytes.count)
    return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
  }

  @Test(
    "A dump has the pages that are resident, and takes no room for the others",
    .enabled(if: areFiles, "needs core dumps that are files in the working directory"),
    arguments: Host.deliveries.filter { $0 != .auto && ($0 != .sigsegv || hasGuards) }, [true, false])
  func dump(delivery: Delivery, isIn: Bool) throws {
    var template = Array("/tmp/fault-runtime-XXXXXX".utf8CString)
    try #require(mkdtemp(&template) != nil)
    let folder = template.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
    defer { rmdir(folder) }
    defer { for name in names(in: folder) { unlink("\(folder)/\(name)") } }
    #expect(try run("Dying", [folder, delivery.rawValue, isIn ? "in" : "out"]) == .signal(SIGABRT))
    let address = try #require(UInt(try Self.text("\(folder)/address")))
    let core = try CoreFile("\(folder)/\(try #require(names(in: folder).first { $0.hasPrefix("core") }))")
    // The region is 4 GiB, and all else of the process is far less.
    #expect(core.allocatedByteCount < 1 << 30)
    for offset in [0, 3 * Host.pageSize] {
      let bytes = core.bytes(at: address + UInt(offset), count: Host.pageSize)
      let expected = (offset..<(offset + Host.pageSize)).map { Squares.byte(at: $0) }
      #expect(isIn ? bytes == expected : bytes == nil)
    }
  }

  private func names(in folder: String) -> [String] {
    guard let directory = opendir(folder) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }
}

/// A core dump on a 64-bit machine (`elf(5)`).
private final class CoreFile {
  private let descriptor: CInt
  private var segments: [(address: UInt, byteCount: Int, offset: Int)] = []
  let allocatedByteCount: Int

  init(_ path: String) throws {
    descriptor = open(path, O_RDONLY | O_CLOEXEC)
    try #require(descriptor >= 0)
    var facts = stat()
    fstat(descriptor, &facts)
    allocatedByteCount = Int(facts.st_blocks) * 512
    var header = Elf64_Ehdr()
    try #require(pread(descriptor, &header, MemoryLayout<Elf64_Ehdr>.size, 0) == MemoryLayout<Elf64_Ehdr>.size)
    for index in 0..<Int(header.e_phnum) {
      var segment = Elf64_Phdr()
      let size = MemoryLayout<Elf64_Phdr>.size
      try #require(pread(descriptor, &segment, size, off_t(header.e_phoff) + off_t(index * size)) == size)
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
      guard pread(descriptor, &bytes, count, off_t(segment.offset + start)) == count else { return nil }
      return bytes
    }
    return nil
  }
}
