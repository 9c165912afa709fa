internal import CUFFD

/// Which faults a registration asks for.
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
  /// `UFFDIO_REGISTER`: from now on faults of `range` come to this descriptor.
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

  /// `UFFDIO_UNREGISTER`: faults of `range` are the kernel's again, which answers them with zeros. It wakes threads that
  /// wait for missing pages, and only those.
  func unregister(_ range: AddressRange) throws(UserfaultfdError) {
    if let errno = KernelErrno(
      returned: cuffd_ioctl_unregister(descriptor, UInt64(range.start), UInt64(range.byteCount)))
    {
      throw UserfaultfdError(call: .unregister, errno: errno)
    }
  }

  /// `UFFDIO_WAKE`: threads that wait in `range` look again, and report again where nothing has changed.
  func wake(_ range: AddressRange) throws(UserfaultfdError) {
    if let errno = KernelErrno(returned: cuffd_ioctl_wake(descriptor, UInt64(range.start), UInt64(range.byteCount))) {
      throw UserfaultfdError(call: .wake, errno: errno)
    }
  }
}
