#if DEBUG
  internal import CUFFD

  /// Makes calls to the kernel fail on purpose, for tests. Release builds do not contain it. This is an enum without
  /// cases, because it only groups its functions; it will never get a case.
  @_spi(Testing)
  public enum KernelTrouble {
    /// From now on, `perMillion` of a million requests meet an error that the kernel may return at any time. The
    /// value 0 ends this.
    public static func begin(seed: UInt64, perMillion: UInt64) { cuffd_trouble_begin(seed, perMillion) }

    /// How many errors were made since the process started, by kind.
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
