internal import CUFFD

extension Userfaultfd {
  /// A kind of userfaultfd that the host refused, and the error.
  struct Refusal: Hashable, Sendable {
    var kind: DescriptorKind
    var errno: KernelErrno
  }

  /// The host refused every kind of userfaultfd that was tried.
  struct Unavailable: Error, Hashable, Sendable {
    var refusals: [Refusal]
  }

  /// The device node of Linux 6.1 and later.
  static let devicePath = "/dev/userfaultfd"

  /// Opens a userfaultfd of the first of `kinds` that the host allows, with those of the `wanted` features that this
  /// kernel has and that are not in `withheld`.
  ///
  /// `UFFDIO_API` can be called only once on a descriptor, even if it only asks for the available features. This
  /// function therefore asks on a second descriptor, which it closes again.
  static func open(
    _ kinds: [DescriptorKind], wanting wanted: UserfaultfdFeatures,
    without withheld: UserfaultfdFeatures = []
  ) throws(Unavailable) -> Userfaultfd {
    var refusals: [Refusal] = []
    for kind in kinds {
      do {
        let available = try probe(kind).subtracting(withheld)
        let enabled = wanted.intersection(available)
        let descriptor = try openRaw(kind)
        let owner = Userfaultfd(descriptor: descriptor, kind: kind, enabled: enabled, available: available)
        _ = try handshake(owner.descriptor, enabled)
        return owner
      } catch {
        refusals.append(Refusal(kind: kind, errno: error.errno))
      }
    }
    throw Unavailable(refusals: refusals)
  }

  /// Asks the kernel, on a descriptor that is closed again, which features it offers.
  static func probe(_ kind: DescriptorKind) throws(UserfaultfdError) -> UserfaultfdFeatures {
    let descriptor = try openRaw(kind)
    defer { _ = cuffd_close(descriptor) }
    return try handshake(descriptor, [])
  }

  private static func openRaw(_ kind: DescriptorKind) throws(UserfaultfdError) -> CInt {
    let flags = CUFFD_OPEN_FLAGS
    let result =
      switch kind.kind {
      case .full: cuffd_open(flags)
      case .device: unsafe cuffd_open_device(devicePath, flags)
      case .userModeOnly: cuffd_open(flags | CUFFD_USER_MODE_ONLY)
      case .deviceUserModeOnly: unsafe cuffd_open_device(devicePath, flags | CUFFD_USER_MODE_ONLY)
      }
    if let errno = KernelErrno(returned: result) {
      throw UserfaultfdError(call: kind.isOfDevice ? .openDevice : .userfaultfd, errno: errno)
    }
    return result
  }

  private static func handshake(
    _ descriptor: CInt,
    _ features: UserfaultfdFeatures
  ) throws(UserfaultfdError) -> UserfaultfdFeatures {
    var argument = cuffd_api(api: CUFFD_API_VERSION, features: features.rawValue, ioctls: 0)
    if let errno = unsafe KernelErrno(returned: cuffd_ioctl_api(descriptor, &argument)) {
      throw UserfaultfdError(call: .api, errno: errno)
    }
    return UserfaultfdFeatures(rawValue: argument.features)
  }
}
