internal import CUFFD

/// Owns a userfaultfd. Everything that the rest of the library asks of the kernel about faults goes through this
/// type.
///
/// When the last descriptor of a userfaultfd is closed, the kernel gives a page of zeros to every thread that still
/// waits. An owner must therefore live until its ranges are unregistered or unmapped; `SharedUserfaultfd` ensures
/// this.
struct Userfaultfd: ~Copyable, Sendable {
  /// The number of the descriptor, which has the flags `O_CLOEXEC` and `O_NONBLOCK`.
  let descriptor: CInt
  /// How the descriptor was opened.
  let kind: DescriptorKind
  /// The features that are enabled on the descriptor.
  let enabled: UserfaultfdFeatures
  /// The features that this kernel offers.
  let available: UserfaultfdFeatures

  /// Whether the kernel offers `UFFDIO_POISON`. This is a property of its own, because the compiler cannot prove that
  /// asking an option set takes no lock and allocates nothing.
  let canPoison: Bool

  /// Keeps the userfaultfd alive where the program closes the descriptor.
  private let keeper: UInt64

  init(descriptor: CInt, kind: DescriptorKind, enabled: UserfaultfdFeatures, available: UserfaultfdFeatures) {
    self.descriptor = descriptor
    self.kind = kind
    self.enabled = enabled
    self.available = available
    canPoison = available.contains(.poison)
    unsafe cuffd_note_own("userfaultfd", descriptor)
    keeper = cuffd_keep(descriptor)
  }

  deinit {
    cuffd_close_own(descriptor)
    cuffd_keep_no_more(keeper)
  }

  /// Whether the program has closed the descriptor, or has put another file in its place.
  var isLost: Bool { !cuffd_is_userfaultfd(descriptor) }

  /// Ends the process with a line that says why, if the program has closed the descriptor or has put another file in
  /// its place. The threads that wait for a page would wait for ever.
  func endIfLost() { cuffd_end_if_lost(descriptor) }
}

/// A call that concerns a userfaultfd. The raw value is its name in error messages.
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
