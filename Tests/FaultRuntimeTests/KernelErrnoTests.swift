import Glibc
import TestSupport
import Testing

@testable import FaultRuntime

/// Each row spells its constant, which must have the name that it has in `Errno` of swift-system.
private let everyConstant: [(constant: KernelErrno, number: CInt, name: String)] = [
  (.notPermitted, EPERM, "EPERM"),
  (.noSuchFileOrDirectory, ENOENT, "ENOENT"),
  (.noSuchProcess, ESRCH, "ESRCH"),
  (.interrupted, EINTR, "EINTR"),
  (.ioError, EIO, "EIO"),
  (.noSuchAddressOrDevice, ENXIO, "ENXIO"),
  (.argListTooLong, E2BIG, "E2BIG"),
  (.badFileDescriptor, EBADF, "EBADF"),
  (.noChildProcess, ECHILD, "ECHILD"),
  (.resourceTemporarilyUnavailable, EAGAIN, "EAGAIN"),
  (.wouldBlock, EWOULDBLOCK, "EAGAIN"),
  (.noMemory, ENOMEM, "ENOMEM"),
  (.permissionDenied, EACCES, "EACCES"),
  (.badAddress, EFAULT, "EFAULT"),
  (.resourceBusy, EBUSY, "EBUSY"),
  (.fileExists, EEXIST, "EEXIST"),
  (.improperLink, EXDEV, "EXDEV"),
  (.operationNotSupportedByDevice, ENODEV, "ENODEV"),
  (.notDirectory, ENOTDIR, "ENOTDIR"),
  (.isDirectory, EISDIR, "EISDIR"),
  (.invalidArgument, EINVAL, "EINVAL"),
  (.tooManyOpenFilesInSystem, ENFILE, "ENFILE"),
  (.tooManyOpenFiles, EMFILE, "EMFILE"),
  (.inappropriateIOCTLForDevice, ENOTTY, "ENOTTY"),
  (.textFileBusy, ETXTBSY, "ETXTBSY"),
  (.fileTooLarge, EFBIG, "EFBIG"),
  (.noSpace, ENOSPC, "ENOSPC"),
  (.illegalSeek, ESPIPE, "ESPIPE"),
  (.readOnlyFileSystem, EROFS, "EROFS"),
  (.brokenPipe, EPIPE, "EPIPE"),
  (.outOfRange, ERANGE, "ERANGE"),
  (.deadlock, EDEADLK, "EDEADLK"),
  (.fileNameTooLong, ENAMETOOLONG, "ENAMETOOLONG"),
  (.noLocks, ENOLCK, "ENOLCK"),
  (.noFunction, ENOSYS, "ENOSYS"),
  (.tooManySymbolicLinkLevels, ELOOP, "ELOOP"),
  (.noData, ENODATA, "ENODATA"),
  (.timeout, ETIME, "ETIME"),
  (.overflow, EOVERFLOW, "EOVERFLOW"),
  (.notSocket, ENOTSOCK, "ENOTSOCK"),
  (.messageTooLong, EMSGSIZE, "EMSGSIZE"),
  (.notSupported, ENOTSUP, "EOPNOTSUPP"),
  (.notSupportedOnSocket, EOPNOTSUPP, "EOPNOTSUPP"),
  (.addressInUse, EADDRINUSE, "EADDRINUSE"),
  (.connectionAbort, ECONNABORTED, "ECONNABORTED"),
  (.connectionReset, ECONNRESET, "ECONNRESET"),
  (.noBufferSpace, ENOBUFS, "ENOBUFS"),
  (.socketIsConnected, EISCONN, "EISCONN"),
  (.socketNotConnected, ENOTCONN, "ENOTCONN"),
  (.timedOut, ETIMEDOUT, "ETIMEDOUT"),
  (.connectionRefused, ECONNREFUSED, "ECONNREFUSED"),
  (.noRouteToHost, EHOSTUNREACH, "EHOSTUNREACH"),
  (.staleNFSFileHandle, ESTALE, "ESTALE"),
  (.diskQuotaExceeded, EDQUOT, "EDQUOT"),
  (.canceled, ECANCELED, "ECANCELED"),
  (.previousOwnerDied, EOWNERDEAD, "EOWNERDEAD"),
  (.notRecoverable, ENOTRECOVERABLE, "ENOTRECOVERABLE"),
]

@Suite("Error numbers", .timeLimit(.minutes(6)))
struct KernelErrnoTests {
  @Test("Constants have the numbers and names of the manual pages")
  func constants() {
    for row in everyConstant {
      #expect(row.constant.rawValue == row.number)
      #expect(row.constant.description == row.name)
    }
  }

  @Test("Every number that the C library can explain has a name, and no other")
  func names() {
    for number in CInt(-2)...200 {
      let errno = KernelErrno(rawValue: number)
      // The C library explains 0 as well: "Success".
      let isKnown = number > 0 && !errno.explanation.hasPrefix("Unknown error")
      #expect(errno.description.hasPrefix("E") == isKnown, "\(number)")
      if !isKnown { #expect(errno.description == "errno \(number)") }
    }
    #expect(KernelErrno(rawValue: .min).description == "errno \(CInt.min)")
    #expect(KernelErrno(rawValue: .max).description == "errno \(CInt.max)")
  }
}
