internal import CUFFD

/// The owner of a userfaultfd. Everything that the rest of the library asks of the kernel about faults goes through it.
///
/// Closing the last descriptor of a userfaultfd makes the kernel answer every thread that still waits with a page of
/// zeros. So an owner may only die after its ranges were unregistered; `EventLoop` and `Region` keep that order.
struct Userfaultfd: ~Copyable, Sendable {
  /// The descriptor's number. It is opened `O_CLOEXEC | O_NONBLOCK`.
  let descriptor: CInt
  /// How it was obtained.
  let kind: DescriptorKind
  /// The features that are switched on.
  let enabled: UserfaultfdFeatures
  /// The features that this kernel offers.
  let available: UserfaultfdFeatures

  /// Whether `poison` can be had. By itself, because a set of options cannot be asked where nothing may be allocated.
  let canPoison: Bool

  init(descriptor: CInt, kind: DescriptorKind, enabled: UserfaultfdFeatures, available: UserfaultfdFeatures) {
    self.descriptor = descriptor
    self.kind = kind
    self.enabled = enabled
    self.available = available
    canPoison = available.contains(.poison)
  }

  deinit {
    _ = cuffd_close(descriptor)
  }
}

/// A call that concerns a userfaultfd, for error messages.
enum UserfaultfdCall: String, Sendable {
  case userfaultfd, openDevice = "USERFAULTFD_IOC_NEW", api = "UFFDIO_API", register = "UFFDIO_REGISTER"
  case unregister = "UFFDIO_UNREGISTER", wake = "UFFDIO_WAKE", read
}

/// A failed call on a userfaultfd.
struct UserfaultfdError: Error, Hashable, Sendable, CustomStringConvertible {
  var call: UserfaultfdCall
  var errno: KernelErrno

  var description: String { "\(call.rawValue): \(errno)" }
}
