internal import CUFFD

/// What a userfaultfd can do, as `UFFDIO_API` negotiates it.
public struct UserfaultfdFeatures: OptionSet, Hashable, Sendable {
  /// The bits of `uffdio_api.features`.
  public var rawValue: UInt64

  /// Wraps the bits of `uffdio_api.features`.
  public init(rawValue: UInt64) {
    self.rawValue = rawValue
  }

  /// Faults carry the write-protect flag (Linux 5.7).
  public static let pagefaultFlagWriteProtect = Self(rawValue: CUFFD_FEATURE_PAGEFAULT_FLAG_WP)
  /// `fork` is reported (4.11); needs `CAP_SYS_PTRACE`.
  public static let eventFork = Self(rawValue: CUFFD_FEATURE_EVENT_FORK)
  /// `mremap` is reported (4.11).
  public static let eventRemap = Self(rawValue: CUFFD_FEATURE_EVENT_REMAP)
  /// `MADV_DONTNEED` and `MADV_REMOVE` are reported (4.11).
  public static let eventRemove = Self(rawValue: CUFFD_FEATURE_EVENT_REMOVE)
  /// Missing faults on hugetlbfs (4.11).
  public static let missingHugetlbfs = Self(rawValue: CUFFD_FEATURE_MISSING_HUGETLBFS)
  /// Missing faults on shared memory (4.11).
  public static let missingShmem = Self(rawValue: CUFFD_FEATURE_MISSING_SHMEM)
  /// `munmap` is reported (4.11).
  public static let eventUnmap = Self(rawValue: CUFFD_FEATURE_EVENT_UNMAP)
  /// Faults raise SIGBUS in the faulting thread, no messages are delivered (4.14).
  public static let sigbus = Self(rawValue: CUFFD_FEATURE_SIGBUS)
  /// Faults carry the thread's id (4.14).
  public static let threadID = Self(rawValue: CUFFD_FEATURE_THREAD_ID)
  /// Minor faults on hugetlbfs (5.13).
  public static let minorHugetlbfs = Self(rawValue: CUFFD_FEATURE_MINOR_HUGETLBFS)
  /// Minor faults on shared memory (5.14).
  public static let minorShmem = Self(rawValue: CUFFD_FEATURE_MINOR_SHMEM)
  /// Faults carry the exact address instead of its page (5.18).
  public static let exactAddress = Self(rawValue: CUFFD_FEATURE_EXACT_ADDRESS)
  /// Write protection on hugetlbfs and shared memory (5.19).
  public static let writeProtectHugetlbfsShmem = Self(rawValue: CUFFD_FEATURE_WP_HUGETLBFS_SHMEM)
  /// Write protection of pages that do not exist yet (6.4).
  public static let writeProtectUnpopulated = Self(rawValue: CUFFD_FEATURE_WP_UNPOPULATED)
  /// `UFFDIO_POISON` (6.6).
  public static let poison = Self(rawValue: CUFFD_FEATURE_POISON)
  /// Write protection that the kernel resolves by itself (6.7).
  public static let writeProtectAsync = Self(rawValue: CUFFD_FEATURE_WP_ASYNC)
  /// `UFFDIO_MOVE` (6.8).
  public static let move = Self(rawValue: CUFFD_FEATURE_MOVE)
}
