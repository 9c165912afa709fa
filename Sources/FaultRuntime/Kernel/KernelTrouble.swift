#if DEBUG
  internal import CUFFD

  /// A kernel that makes trouble, at the boundary to it: for tests. Release builds do not contain it. An enum without cases,
  /// because it is only a name for its functions; no value of it can exist, so it will never get a case.
  @_spi(Testing)
  public enum KernelTrouble {
    /// From now on `perMillion` of a million requests meet trouble that the kernel may make at any time; 0 for none.
    public static func begin(seed: UInt64, perMillion: UInt64) { cuffd_trouble_begin(seed, perMillion) }

    /// What was made so far, by kind.
    public static var made: [String: Int] {
      [
        "EAGAIN": count(CUFFD_TROUBLE_AGAIN), "EAGAIN after a part": count(CUFFD_TROUBLE_PARTIAL),
        "ENOMEM": count(CUFFD_TROUBLE_NO_MEMORY), "EBUSY": count(CUFFD_TROUBLE_BUSY),
        "EINTR of a read": count(CUFFD_TROUBLE_INTERRUPTED), "short read": count(CUFFD_TROUBLE_SHORT_READ),
      ]
    }

    private static func count(_ kind: cuffd_trouble) -> Int { Int(clamping: cuffd_trouble_made(kind)) }
  }
#endif
