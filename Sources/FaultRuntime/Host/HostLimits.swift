/// Settings and limits of the host that a program with lazy memory may meet. A value is nil where the host does not
/// tell it, or has no such limit.
public struct HostLimits: Hashable, Sendable {
  /// `vm.max_map_count`: how many mappings a process may have.
  public let mappings: Int?
  /// The soft `RLIMIT_NOFILE`: how many descriptors this process may have open.
  public let openFiles: Int?
  /// The soft `RLIMIT_AS`: bytes of address space, lazy or not.
  public let addressSpaceByteCount: Int?
  /// The smallest limit among the memory cgroup of this process and the cgroups above it, in bytes, as far as the
  /// process can see them.
  public let cgroupByteCount: Int?
  /// The number of bytes that the cgroup with that limit uses now.
  public let cgroupUsedByteCount: Int?
  /// The number of free hugetlb pages of the default size. Lazy regions do not use such pages.
  public let freeHugePages: Int?
  /// The number of bytes in a hugetlb page of the default size.
  public let hugePageByteCount: Int?
  /// When the kernel makes transparent huge pages: `always`, `madvise` or `never`. They make large prefetches cheap.
  public let transparentHugePages: String?
  /// The number of bytes in a transparent huge page.
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
  /// The limits that a program is likely to meet, each with its effect, in one line.
  ///
  /// The bounds suit a program with a few regions: a region takes one mapping, with `sigsegv` three. A handler takes
  /// three descriptors, and so does the delivery `sigbus`.
  var warnings: [String] {
    var warnings: [String] = []
    if let mappings, mappings < 65530 {
      warnings.append(
        """
        vm.max_map_count is \(mappings), less than the kernel's own 65530: many regions fail with cannotMap or \
        cannotRegister
        """
      )
    }
    if let openFiles, openFiles < 64 {
      warnings.append(
        """
        RLIMIT_NOFILE is \(openFiles): a handler takes 3 descriptors, and so does sigbus; a runtime has up to 4 handlers
        """
      )
    }
    if let addressSpaceByteCount {
      warnings.append(
        "RLIMIT_AS is \(addressSpaceByteCount) bytes: a region takes its whole length of it, filled or not")
    }
    if let cgroupByteCount {
      let used = cgroupUsedByteCount.map { ", \($0) of them used" } ?? ""
      warnings.append(
        """
        the memory cgroup has \(cgroupByteCount) bytes\(used): filling more ends the program or fails pages with \
        ENOMEM
        """
      )
    }
    if transparentHugePages == "never" {
      warnings.append(
        "transparent huge pages are never made: large prefetches are filled page by page, at half the speed or less")
    }
    return warnings
  }
}
