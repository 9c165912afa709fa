/// An error number of the kernel.
///
/// ```swift
/// if error.errno == .tooManyOpenFiles { print("raise RLIMIT_NOFILE") }
/// ```
///
/// The constants have the same names as those of `Errno` in the swift-system package. The type itself has another
/// name, because a program may import both. A value may have any number, also one without a constant.
public struct KernelErrno: RawRepresentable, Hashable, Sendable {
  /// The positive error number, as in `errno(3)`.
  public let rawValue: CInt

  /// Creates an error number from the positive number that `errno(3)` names.
  @_noLocks @_noAllocation
  public init(rawValue: CInt) {
    self.rawValue = rawValue
  }
}

extension KernelErrno {
  /// Operation not permitted.
  public static let notPermitted = KernelErrno(rawValue: 1)  // EPERM
  /// No such file or directory. From userfaultfd: the range is not registered or no longer mapped.
  public static let noSuchFileOrDirectory = KernelErrno(rawValue: 2)  // ENOENT
  /// No such process. From userfaultfd: the address space no longer exists.
  public static let noSuchProcess = KernelErrno(rawValue: 3)  // ESRCH
  /// A signal interrupted the call.
  public static let interrupted = KernelErrno(rawValue: 4)  // EINTR
  /// Input or output error.
  public static let ioError = KernelErrno(rawValue: 5)  // EIO
  /// No such address or device.
  public static let noSuchAddressOrDevice = KernelErrno(rawValue: 6)  // ENXIO
  /// The argument list is too long.
  public static let argListTooLong = KernelErrno(rawValue: 7)  // E2BIG
  /// Bad file descriptor.
  public static let badFileDescriptor = KernelErrno(rawValue: 9)  // EBADF
  /// There is no child process to wait for.
  public static let noChildProcess = KernelErrno(rawValue: 10)  // ECHILD
  /// Resource temporarily unavailable. From userfaultfd: the request was done in part, or an event is unread.
  public static let resourceTemporarilyUnavailable = KernelErrno(rawValue: 11)  // EAGAIN
  /// The operation would block. On Linux this is the same number as ``resourceTemporarilyUnavailable``.
  public static let wouldBlock = KernelErrno(rawValue: 11)  // EWOULDBLOCK
  /// Memory is used up, or a limit on memory was reached.
  public static let noMemory = KernelErrno(rawValue: 12)  // ENOMEM
  /// Permission denied.
  public static let permissionDenied = KernelErrno(rawValue: 13)  // EACCES
  /// Bad address.
  public static let badAddress = KernelErrno(rawValue: 14)  // EFAULT
  /// Device or resource busy.
  public static let resourceBusy = KernelErrno(rawValue: 16)  // EBUSY
  /// File exists. From userfaultfd: the page is already present.
  public static let fileExists = KernelErrno(rawValue: 17)  // EEXIST
  /// A link would lead to another file system.
  public static let improperLink = KernelErrno(rawValue: 18)  // EXDEV
  /// The device, or the file system, does not support the operation.
  public static let operationNotSupportedByDevice = KernelErrno(rawValue: 19)  // ENODEV
  /// Not a directory.
  public static let notDirectory = KernelErrno(rawValue: 20)  // ENOTDIR
  /// Is a directory.
  public static let isDirectory = KernelErrno(rawValue: 21)  // EISDIR
  /// Invalid argument.
  public static let invalidArgument = KernelErrno(rawValue: 22)  // EINVAL
  /// Too many open files in the system.
  public static let tooManyOpenFilesInSystem = KernelErrno(rawValue: 23)  // ENFILE
  /// Too many open files in this process.
  public static let tooManyOpenFiles = KernelErrno(rawValue: 24)  // EMFILE
  /// The descriptor does not know this `ioctl(2)`.
  public static let inappropriateIOCTLForDevice = KernelErrno(rawValue: 25)  // ENOTTY
  /// The file of a running program cannot be written, or a file that is open for writing cannot be run.
  public static let textFileBusy = KernelErrno(rawValue: 26)  // ETXTBSY
  /// The file would be too large.
  public static let fileTooLarge = KernelErrno(rawValue: 27)  // EFBIG
  /// No space is left on the device.
  public static let noSpace = KernelErrno(rawValue: 28)  // ENOSPC
  /// The descriptor has no file position.
  public static let illegalSeek = KernelErrno(rawValue: 29)  // ESPIPE
  /// The file system is read-only.
  public static let readOnlyFileSystem = KernelErrno(rawValue: 30)  // EROFS
  /// No process reads from the pipe.
  public static let brokenPipe = KernelErrno(rawValue: 32)  // EPIPE
  /// The number is out of the range of the result.
  public static let outOfRange = KernelErrno(rawValue: 34)  // ERANGE
  /// The wait would never end.
  public static let deadlock = KernelErrno(rawValue: 35)  // EDEADLK
  /// The name of a file is too long.
  public static let fileNameTooLong = KernelErrno(rawValue: 36)  // ENAMETOOLONG
  /// No locks are available.
  public static let noLocks = KernelErrno(rawValue: 37)  // ENOLCK
  /// The system call does not exist, or a seccomp filter claims so.
  public static let noFunction = KernelErrno(rawValue: 38)  // ENOSYS
  /// The path leads through too many symbolic links.
  public static let tooManySymbolicLinkLevels = KernelErrno(rawValue: 40)  // ELOOP
  /// No data is available.
  public static let noData = KernelErrno(rawValue: 61)  // ENODATA
  /// The timer ran out.
  public static let timeout = KernelErrno(rawValue: 62)  // ETIME
  /// The value does not fit into its type.
  public static let overflow = KernelErrno(rawValue: 75)  // EOVERFLOW
  /// The descriptor is not a socket.
  public static let notSocket = KernelErrno(rawValue: 88)  // ENOTSOCK
  /// The message is too long.
  public static let messageTooLong = KernelErrno(rawValue: 90)  // EMSGSIZE
  /// The operation is not supported.
  public static let notSupported = KernelErrno(rawValue: 95)  // ENOTSUP
  /// The operation is not supported on this socket. On Linux this is the same number as ``notSupported``.
  public static let notSupportedOnSocket = KernelErrno(rawValue: 95)  // EOPNOTSUPP
  /// The address is in use.
  public static let addressInUse = KernelErrno(rawValue: 98)  // EADDRINUSE
  /// The connection was ended by this side.
  public static let connectionAbort = KernelErrno(rawValue: 103)  // ECONNABORTED
  /// The connection was ended by the other side.
  public static let connectionReset = KernelErrno(rawValue: 104)  // ECONNRESET
  /// A network buffer has no space left.
  public static let noBufferSpace = KernelErrno(rawValue: 105)  // ENOBUFS
  /// The socket is already connected.
  public static let socketIsConnected = KernelErrno(rawValue: 106)  // EISCONN
  /// The socket is not connected.
  public static let socketNotConnected = KernelErrno(rawValue: 107)  // ENOTCONN
  /// The wait ran out of time.
  public static let timedOut = KernelErrno(rawValue: 110)  // ETIMEDOUT
  /// No process listens at the address.
  public static let connectionRefused = KernelErrno(rawValue: 111)  // ECONNREFUSED
  /// There is no route to the host.
  public static let noRouteToHost = KernelErrno(rawValue: 113)  // EHOSTUNREACH
  /// The file no longer exists on the server.
  public static let staleNFSFileHandle = KernelErrno(rawValue: 116)  // ESTALE
  /// The disk quota is used up.
  public static let diskQuotaExceeded = KernelErrno(rawValue: 122)  // EDQUOT
  /// The operation was canceled.
  public static let canceled = KernelErrno(rawValue: 125)  // ECANCELED
  /// The owner of the lock ended without releasing it.
  public static let previousOwnerDied = KernelErrno(rawValue: 130)  // EOWNERDEAD
  /// The state that the lock protects cannot be restored.
  public static let notRecoverable = KernelErrno(rawValue: 131)  // ENOTRECOVERABLE
}

extension KernelErrno {
  /// Creates the error in the return value of a CUFFD function, which is `-errno`. The result is nil if the call
  /// succeeded.
  @_noLocks @_noAllocation
  @inline(__always)
  init?(returned value: CInt) {
    guard value < 0 else { return nil }
    self.init(rawValue: -value)
  }
}
