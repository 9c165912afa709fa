import FaultRuntime
import Glibc

/// A file that is written at the end of the work, and whose writability is known from the start.
///
/// Until the end nothing is at its place that was not there before, also if the program is interrupted: the content is
/// written to a file beside it, which then takes its place. Devices and pipes, files that a shell has opened, and files
/// that have other names or another owner are written where they are.
struct OutputFile: ~Copyable {
  private let name: FileName
  /// The file itself, for names that are symbolic links.
  private let place: FileName
  /// The file where it is written directly; nil if another file takes its place.
  private let descriptor: CInt?
  private let mode: mode_t

  init(_ name: FileName) throws(CommandFailure) {
    self.name = name
    place = Self.followingLinks(name)
    var facts = stat()
    let isThere = unsafe place.withCString { unsafe stat($0, &facts) } == 0
    mode = isThere ? facts.st_mode & 0o777 : Self.modeOfNewFiles
    if isThere, let standard = Self.standardDescriptor(facts) {
      // A second description of the same file would begin at its start and overwrite the report.
      descriptor = fcntl(standard, F_DUPFD_CLOEXEC, 3)
    } else if isThere, Self.mustStay(facts) || Self.belongsToDescriptor(name) {
      descriptor = Self.open(place)
    } else if isThere, unsafe place.withCString({ unsafe access($0, W_OK) }) != 0 {
      descriptor = -1
    } else {
      // The probe is the same file that is written at the end.
      let probe = Self.makeBeside(place)
      if let probe {
        close(probe.descriptor)
        probe.file.remove()
        descriptor = nil
      } else {
        // A file may be writable in a folder that is not.
        descriptor = isThere ? Self.open(place) : -1
      }
    }
    if descriptor == -1 { throw Self.failure(name, KernelErrno(rawValue: errno)) }
  }

  deinit { if let descriptor { close(descriptor) } }

  func write(_ text: String) throws(CommandFailure) {
    if let descriptor {
      try write(text, to: descriptor)
    } else if let made = Self.makeBeside(place) {
      defer { close(made.descriptor) }
      do throws(CommandFailure) {
        try write(text, to: made.descriptor)
      } catch {
        made.file.remove()
        throw error
      }
      fchmod(made.descriptor, mode)
      guard made.file.rename(to: place) else {
        let reason = KernelErrno(rawValue: errno)
        made.file.remove()
        // A file that is mounted by itself, as in containers, cannot be replaced.
        let file = Self.open(place)
        guard reason == .resourceBusy, file >= 0 else { throw Self.failure(name, reason) }
        defer { close(file) }
        try write(text, to: file)
        return
      }
    } else {
      throw Self.failure(name, KernelErrno(rawValue: errno))
    }
  }

  private func write(_ text: String, to descriptor: CInt) throws(CommandFailure) {
    // What is shared with standard output already has the report in it.
    if lseek(descriptor, 0, SEEK_CUR) == 0 { _ = ftruncate(descriptor, 0) }
    if let errno = writeAll(text, to: descriptor) { throw Self.failure(name, errno) }
    // Some file systems report only now that bytes were lost. What is no file cannot do this.
    if fsync(descriptor) != 0, ![EINVAL, EROFS].contains(errno) {
      throw Self.failure(name, KernelErrno(rawValue: errno))
    }
  }

  private static func failure(_ name: FileName, _ errno: KernelErrno) -> CommandFailure {
    CommandFailure(message: "cannot write \(name.text) (\(errno): \(errno.explanation))")
  }

  private static func open(_ name: FileName) -> CInt {
    unsafe name.withCString { unsafe Glibc.open($0, O_WRONLY | O_CLOEXEC | O_NOCTTY) }
  }

  /// Creates a file beside `place` that nobody else has. Returns nil, with errno, if that fails.
  private static func makeBeside(_ place: FileName) -> (file: FileName, descriptor: CInt)? {
    for attempt in 0..<100 {
      let file = place.besides("lazy-mem-demo.\(getpid()).\(attempt)")
      let descriptor = unsafe file.withCString { unsafe Glibc.open($0, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600) }
      if descriptor >= 0 { return (file, descriptor) }
      if errno != EEXIST { return nil }
    }
    return nil
  }

  /// Returns standard output or error, if that is the file.
  private static func standardDescriptor(_ facts: stat) -> CInt? {
    [STDOUT_FILENO, STDERR_FILENO].first { descriptor in
      var other = stat()
      return unsafe fstat(descriptor, &other) == 0 && other.st_dev == facts.st_dev && other.st_ino == facts.st_ino
        && facts.st_mode & S_IFMT == S_IFREG
    }
  }

  /// Whether another file in its place would not be the same: it would lose its other names, or its owner.
  private static func mustStay(_ facts: stat) -> Bool {
    facts.st_mode & S_IFMT != S_IFREG || facts.st_nlink != 1 || facts.st_uid != geteuid()
  }

  /// Whether the name means a descriptor of a process, whose file must stay the one that it is.
  private static func belongsToDescriptor(_ name: FileName) -> Bool {
    ["/dev/fd/", "/dev/std", "/proc/"].contains { name.text.hasPrefix($0) }
  }

  /// Follows symbolic links by hand, because the file at the end need not exist.
  private static func followingLinks(_ name: FileName) -> FileName {
    var name = name
    for _ in 0..<40 where !belongsToDescriptor(name) {
      guard let target = name.linkTarget else { break }
      name = target
    }
    return name
  }

  private static let modeOfNewFiles: mode_t = {
    let mask = umask(0)
    umask(mask)
    return 0o666 & ~mask
  }()
}

extension FileName {
  private static let slash = UInt8(ascii: "/")

  /// The folder with a slash at its end; empty for the current one.
  private var folder: ArraySlice<UInt8> {
    bytes.lastIndex(of: Self.slash).map { bytes[...$0] } ?? []
  }

  /// Returns the name of a hidden file in the same folder.
  fileprivate func besides(_ name: String) -> FileName { FileName(bytes: folder + Array(".\(name)".utf8)) }

  /// What a symbolic link refers to; nil if this is none.
  fileprivate var linkTarget: FileName? {
    let target = unsafe [UInt8](unsafeUninitializedCapacity: Int(PATH_MAX)) { buffer, count in
      let length = unsafe withCString { name in
        unsafe buffer.withMemoryRebound(to: CChar.self) { unsafe readlink(name, $0.baseAddress!, $0.count) }
      }
      count = max(0, length)
    }
    guard !target.isEmpty else { return nil }
    return FileName(bytes: target.first == Self.slash ? target : folder + target)
  }

  fileprivate func remove() { _ = unsafe withCString { unsafe unlink($0) } }

  fileprivate func rename(to other: FileName) -> Bool {
    unsafe withCString { old in unsafe other.withCString { unsafe Glibc.rename(old, $0) } } == 0
  }
}
