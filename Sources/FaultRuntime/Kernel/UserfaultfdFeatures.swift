internal import CUFFD

/// The features of a userfaultfd, as `UFFDIO_API` negotiates them. The number behind each one is the Linux version
/// that introduced it.
///
/// ```swift
/// if runtime.availableFeatures.contains(.poison) {
///   print("accesses to a failed page end with SIGBUS")
/// }
/// ```
public struct UserfaultfdFeatures: OptionSet, Hashable, Sendable {
  /// The bits of `uffdio_api.features`.
  public var rawValue: UInt64

  /// Creates a set from the bits of `uffdio_api.features`.
  public init(rawValue: UInt64) {
    self.rawValue = rawValue
  }

  /// Fault messages contain the write-protect flag (5.7).
  public static let pagefaultFlagWriteProtect = Self(rawValue: CUFFD_FEATURE_PAGEFAULT_FLAG_WP)
  /// `fork` is reported (4.11). The process needs `CAP_SYS_PTRACE` for it.
  public static let eventFork = Self(rawValue: CUFFD_FEATURE_EVENT_FORK)
  /// `mremap` is reported (4.11).
  public static let eventRemap = Self(rawValue: CUFFD_FEATURE_EVENT_REMAP)
  /// `MADV_DONTNEED` and `MADV_REMOVE` are reported (4.11).
  public static let eventRemove = Self(rawValue: CUFFD_FEATURE_EVENT_REMOVE)
  /// Missing pages of hugetlbfs are reported (4.11).
  public static let missingHugetlbfs = Self(rawValue: CUFFD_FEATURE_MISSING_HUGETLBFS)
  /// Missing pages of shared memory are reported (4.11).
  public static let missingShmem = Self(rawValue: CUFFD_FEATURE_MISSING_SHMEM)
  /// `munmap` is reported (4.11).
  public static let eventUnmap = Self(rawValue: CUFFD_FEATURE_EVENT_UNMAP)
  /// A fault raises SIGBUS in the faulting thread, and no message is delivered (4.14).
  public static let sigbus = Self(rawValue: CUFFD_FEATURE_SIGBUS)
  /// Fault messages contain the id of the faulting thread (4.14).
  public static let threadID = Self(rawValue: CUFFD_FEATURE_THREAD_ID)
  /// Minor faults of hugetlbfs are reported (5.13).
  public static let minorHugetlbfs = Self(rawValue: CUFFD_FEATURE_MINOR_HUGETLBFS)
  /// Minor faults of shared memory are reported (5.14).
  public static let minorShmem = Self(rawValue: CUFFD_FEATURE_MINOR_SHMEM)
  /// Fault messages contain the exact address instead of the address of its page (5.18).
  public static let exactAddress = Self(rawValue: CUFFD_FEATURE_EXACT_ADDRESS)
  /// Pages of hugetlbfs and of shared memory can be write-protected (5.19).
  public static let writeProtectHugetlbfsShmem = Self(rawValue: CUFFD_FEATURE_WP_HUGETLBFS_SHMEM)
  /// Pages that do not exist yet can be write-protected (6.4).
  public static let writeProtectUnpopulated = Self(rawValue: CUFFD_FEATURE_WP_UNPOPULATED)
  /// `UFFDIO_POISON` is available (6.6).
  public static let poison = Self(rawValue: CUFFD_FEATURE_POISON)
  /// The kernel resolves faults of write protection itself (6.7).
  public static let writeProtectAsync = Self(rawValue: CUFFD_FEATURE_WP_ASYNC)
  /// `UFFDIO_MOVE` is available (6.8).
  public static let move = Self(rawValue: CUFFD_FEATURE_MOVE)
}
