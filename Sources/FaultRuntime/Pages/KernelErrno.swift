/// An error number of the kernel, with the name that the manual pages use.
public struct KernelErrno: RawRepresentable, Hashable, Sendable {
  /// The positive error number, as in `errno(3)`.
  public var rawValue: CInt

  /// Wraps a positive error number.
  @_noLocks @_noAllocation
  public init(rawValue: CInt) {
    self.rawValue = rawValue
  }

  /// Operation not permitted.
  public static let operationNotPermitted = KernelErrno(rawValue: 1)  // EPERM
  /// No such file or directory; from userfaultfd: the range is not registered or no longer mapped.
  public static let noSuchEntry = KernelErrno(rawValue: 2)  // ENOENT
  /// No such process: the address space is gone.
  public static let noSuchProcess = KernelErrno(rawValue: 3)  // ESRCH
  /// Input or output error.
  public static let inputOutput = KernelErrno(rawValue: 5)  // EIO
  /// No such device or address.
  public static let noSuchDeviceOrAddress = KernelErrno(rawValue: 6)  // ENXIO
  /// Bad file descriptor.
  public static let badFileDescriptor = KernelErrno(rawValue: 9)  // EBADF
  /// Resource temporarily unavailable; from userfaultfd: a partial result, or an unread event.
  public static let tryAgain = KernelErrno(rawValue: 11)  // EAGAIN
  /// Cannot allocate memory.
  public static let outOfMemory = KernelErrno(rawValue: 12)  // ENOMEM
  /// Permission denied.
  public static let permissionDenied = KernelErrno(rawValue: 13)  // EACCES
  /// Bad address.
  public static let badAddress = KernelErrno(rawValue: 14)  // EFAULT
  /// Device or resource busy.
  public static let busy = KernelErrno(rawValue: 16)  // EBUSY
  /// File exists; from userfaultfd: the page is present.
  public static let exists = KernelErrno(rawValue: 17)  // EEXIST
  /// Is a directory.
  public static let isDirectory = KernelErrno(rawValue: 21)  // EISDIR
  /// Invalid argument.
  public static let invalidArgument = KernelErrno(rawValue: 22)  // EINVAL
  /// Too many open files in the system.
  public static let tooManyOpenFilesOfSystem = KernelErrno(rawValue: 23)  // ENFILE
  /// Too many open files in this process.
  public static let tooManyOpenFiles = KernelErrno(rawValue: 24)  // EMFILE
  /// The system call does not exist, or a filter says so.
  public static let noSuchSystemCall = KernelErrno(rawValue: 38)  // ENOSYS
  /// The wait ran out of time.
  public static let timedOut = KernelErrno(rawValue: 110)  // ETIMEDOUT

  /// Interrupted by a signal.
  static let interrupted = KernelErrno(rawValue: 4)  // EINTR
}

extension KernelErrno: CustomStringConvertible {
  /// The symbolic name, such as `ENOMEM`; `errno 95` for a number without a name here.
  public var description: String {
    switch self {
    case .operationNotPermitted: "EPERM"
    case .noSuchEntry: "ENOENT"
    case .noSuchProcess: "ESRCH"
    case .interrupted: "EINTR"
    case .inputOutput: "EIO"
    case .noSuchDeviceOrAddress: "ENXIO"
    case .badFileDescriptor: "EBADF"
    case .tryAgain: "EAGAIN"
    case .outOfMemory: "ENOMEM"
    case .permissionDenied: "EACCES"
    case .badAddress: "EFAULT"
    case .busy: "EBUSY"
    case .exists: "EEXIST"
    case .isDirectory: "EISDIR"
    case .invalidArgument: "EINVAL"
    case .tooManyOpenFilesOfSystem: "ENFILE"
    case .tooManyOpenFiles: "EMFILE"
    case .noSuchSystemCall: "ENOSYS"
    case .timedOut: "ETIMEDOUT"
    default: "errno \(rawValue)"
    }
  }
}

extension KernelErrno {
  /// The error in the return value of a CUFFD function, which is `-errno`; nil where the call succeeded.
  @_noLocks @_noAllocation
  @inline(__always)
  init?(returned value: CInt) {
    guard value < 0 else { return nil }
    self.init(rawValue: -value)
  }
}
