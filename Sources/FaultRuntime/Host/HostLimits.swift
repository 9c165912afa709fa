/// Settings and limits of the host that a program with lazy memory may meet. Nil is what the host does not tell, or has
/// no limit for.
public struct HostLimits: Hashable, Sendable {
  /// `vm.max_map_count`: how many mappings a process may have.
  public let mappings: Int?
  /// The soft `RLIMIT_NOFILE`: how many descriptors this process may have open.
  public let openFiles: Int?
  /// The soft `RLIMIT_AS`: bytes of address space, lazy or not.
  public let addressSpaceByteCount: Int?
  /// The least limit of the memory cgroup and those above it, as far as they can be seen.
  public let cgroupByteCount: Int?
  /// Bytes that the cgroup with that limit uses now.
  public let cgroupUsedByteCount: Int?
  /// Free pages of hugetlb, of the default size. Lazy regions do not use them.
  public let freeHugePages: Int?
  /// Bytes in a huge page of hugetlb, of the default size.
  public let hugePageByteCount: Int?
  /// When the kernel makes transparent huge pages: `always`, `madvise` or `never`. They make large prefetches cheap.
  public let transparentHugePages: String?
  /// Bytes in a transparent huge page.
  public let transparentHugePageByteCount: Int?

  init(
    mappings: Int? = nil, openFiles: Int? = nil, addressSpaceByteCount: Int? = nil, cgroupByteCount: Int? = nil,
    cgroupUsedByteCount: Int? = nil, freeHugePages: Int? = nil, hugePageByteCount: Int? = nil,
    transparentHugePages: String? = nil, transparentHugePageByteCount: Int? = nil
  ) {
    self.mappings = mappings
    self.openFiles = openFiles
    self.addressSpaceByteCount = addressSpaceByteCount
    self.cgroupByteCount = cgroupByteCount
    self.cgroupUsedByteCount = cgroupUsedByteCount
    self.freeHugePages = freeHugePages
    self.hugePageByteCount = hugePageByteCount
    self.transparentHugePages = transparentHugePages
    self.transparentHugePageByteCount = transparentHugePageByteCount
  }
}

extension HostLimits {
  /// Those of the limits that will bite, each with what they do, in one line.
  ///
  /// The bounds are for a program of a few regions: a region takes one mapping, and a handler three descriptors.
  var warnings: [String] {
    var warnings: [String] = []
    if let mappings, mappings < 65530 {
      warnings.append(
        "vm.max_map_count is \(mappings), less than the kernel's own 65530: many regions fail with cannotMap or cannotRegister"
      )
    }
    if let openFiles, openFiles < 64 {
      warnings.append("RLIMIT_NOFILE is \(openFiles): a handler takes 3 descriptors, a runtime up to 4 handlers")
    }
    if let addressSpaceByteCount {
      warnings.append(
        "RLIMIT_AS is \(addressSpaceByteCount) bytes: a region takes its whole length of it, filled or not")
    }
    if let cgroupByteCount {
      let used = cgroupUsedByteCount.map { ", \($0) of them used" } ?? ""
      warnings.append(
        "the memory cgroup has \(cgroupByteCount) bytes\(used): filling more ends the program or fails pages with ENOMEM"
      )
    }
    if transparentHugePages == "never" {
      warnings.append(
        "transparent huge pages are never made: large prefetches are filled page by page, at half the speed or less")
    }
    return warnings
  }
}
