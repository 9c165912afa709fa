internal import CUFFD

/// The kinds of faults that a registration asks for.
struct RegisterMode: OptionSet, Hashable, Sendable {
  var rawValue: UInt64

  static let missing = Self(rawValue: CUFFD_REGISTER_MODE_MISSING)
  static let writeProtect = Self(rawValue: CUFFD_REGISTER_MODE_WP)
  static let minor = Self(rawValue: CUFFD_REGISTER_MODE_MINOR)
}

/// The requests that a registered range accepts, as the kernel reports them.
struct RangeRequests: OptionSet, Hashable, Sendable {
  var rawValue: UInt64

  private init(bit: Int32) { rawValue = 1 << UInt64(bit) }
  init(rawValue: UInt64) { self.rawValue = rawValue }

  static let wake = Self(bit: CUFFD_REQUEST_WAKE)
  static let copy = Self(bit: CUFFD_REQUEST_COPY)
  static let zeropage = Self(bit: CUFFD_REQUEST_ZEROPAGE)
  static let move = Self(bit: CUFFD_REQUEST_MOVE)
  static let writeProtect = Self(bit: CUFFD_REQUEST_WRITEPROTECT)
  static let `continue` = Self(bit: CUFFD_REQUEST_CONTINUE)
  static let poison = Self(bit: CUFFD_REQUEST_POISON)
}

extension Userfaultfd {
  /// Calls `UFFDIO_REGISTER`. From now on the kernel reports faults of `range` to this descriptor.
  @discardableResult
  func register(_ range: AddressRange, mode: RegisterMode) throws(UserfaultfdError) -> RangeRequests {
    var argument = cuffd_register(
      range: cuffd_range(start: UInt64(range.start), len: UInt64(range.byteCount)),
      mode: mode.rawValue,
      ioctls: 0
    )
    if let errno = unsafe KernelErrno(returned: cuffd_ioctl_register(descriptor, &argument)) {
      throw UserfaultfdError(call: .register, errno: errno)
    }
    return RangeRequests(rawValue: argument.ioctls)
  }

  /// Calls `UFFDIO_UNREGISTER`. From now on the kernel answers faults of `range` itself, with zeros. The call wakes
  /// the threads that wait for missing pages, but not those that wait for other kinds of faults.
  func unregister(_ range: AddressRange) throws(UserfaultfdError) {
    if let errno = KernelErrno(
      returned: cuffd_ioctl_unregister(descriptor, UInt64(range.start), UInt64(range.byteCount)))
    {
      // With `sigbus` no thread waits.
      if !enabled.contains(.sigbus) { endIfLost() }
      throw UserfaultfdError(call: .unregister, errno: errno)
    }
  }

  /// Calls `UFFDIO_WAKE`. The threads that wait in `range` try their access again, and the kernel reports a fault
  /// again if nothing has changed.
  func wake(_ range: AddressRange) throws(UserfaultfdError) {
    if let errno = KernelErrno(returned: cuffd_ioctl_wake(descriptor, UInt64(range.start), UInt64(range.byteCount))) {
      if !enabled.contains(.sigbus) { endIfLost() }
      throw UserfaultfdError(call: .wake, errno: errno)
    }
  }
}
