/// Why the kernel, or the runtime, refused address space or memory.
enum MemoryShortage: Hashable, Sendable {
  /// The process has as many mappings as it may (`vm.max_map_count`).
  case mappings(Int, limit: Int)
  /// The regions of the delivery `sigsegv` have as many mappings as they may.
  case regionMappings(limit: Int)
  /// The process would have more bytes of address space than `RLIMIT_AS` permits.
  case addressSpace(limit: Int)
  /// The process would have more bytes of writable memory of its own than `RLIMIT_DATA` permits.
  case data(limit: Int)
  /// The process would have more locked memory than `RLIMIT_MEMLOCK` permits. Nil means that there is no limit now.
  case lockedMemory(limit: Int?)
  /// The file behind a region would be longer than `RLIMIT_FSIZE` permits.
  case fileSize(limit: Int?)
  /// The host promises no more memory than it has (`vm.overcommit_memory` is 2).
  case overcommit
  /// The process has no free range of addresses that is long enough.
  case addresses
  case openFiles
  case threads
  /// The process has as many keys of thread-specific data as the C library permits.
  case threadKeys
  /// No limit that the process can see is the cause.
  case unknown
}

extension MemoryShortage: CustomStringConvertible {
  /// One line that says which limit it is, and what to do about it.
  var description: String {
    switch self {
    case .mappings(let count, let limit):
      """
      the process has \(count) of \(limit) mappings (vm.max_map_count); map fewer, larger regions, or raise it: \
      sysctl -w vm.max_map_count=\(Self.raised(limit))
      """
    case .regionMappings(let limit):
      """
      regions with the delivery sigsegv may use \(limit) mappings, half of vm.max_map_count, and each takes 3; map \
      fewer, larger regions, or raise it: sysctl -w vm.max_map_count=\(Self.raised(2 * limit))
      """
    case .addressSpace(let limit):
      "RLIMIT_AS is \(limit) bytes of address space, lazy or not; raise it (ulimit -v)"
    case .data(let limit):
      "RLIMIT_DATA is \(limit) bytes of memory that can be written, lazy or not; raise it (ulimit -d), or map read-only"
    case .lockedMemory(let limit):
      """
      the process locks what it maps (mlockall with MCL_FUTURE), and RLIMIT_MEMLOCK is \
      \(limit.map { "\($0) bytes" } ?? "too low"); raise it (ulimit -l), or lock after mapping
      """
    case .fileSize(let limit):
      """
      with the delivery sigsegv a region is a file in memory, and RLIMIT_FSIZE is \
      \(limit.map { "\($0) bytes" } ?? "too low"); raise it (ulimit -f), or map smaller regions
      """
    case .overcommit:
      "vm.overcommit_memory is 2, so the host promises no more memory than it has, lazy or not; set it to 0 or 1"
    case .addresses:
      "the process has no free range of addresses of that length, and no limit such as RLIMIT_AS is the cause"
    case .openFiles:
      "the limit of open files is reached (RLIMIT_NOFILE, or fs.file-max of the system); raise it (ulimit -n)"
    case .threads:
      "no more threads are allowed (RLIMIT_NPROC, the pids cgroup, or kernel.threads-max); raise the limit"
    case .threadKeys:
      "the program has made every key of thread-specific data that a process may have (PTHREAD_KEYS_MAX, 1024)"
    case .unknown:
      "the host has no memory left for it, or a limit that the process cannot see forbids it"
    }
  }

  /// Returns a limit that leaves room: a power of two, at least twice the present one.
  private static func raised(_ limit: Int) -> Int {
    var raised = 1 << 17
    while raised < 2 * limit, raised < 1 << 30 { raised *= 2 }
    return raised
  }
}
