internal import CUFFD

/// The bytes of a regular file, read with `pread(2)`.
///
/// The length is that of the file when it was opened. Where the file is truncated later, pages behind its new end fail
/// with ``FileProviderError``; they do not read as zero. Where its contents change, pages that are not resident yet show
/// the change, and the others do not.
///
/// For a local file and nothing else, plain `mmap(2)` is faster. This provider is for what `mmap` cannot do: errors in
/// place of SIGBUS roulette, private snapshots, memory that mixes files with other sources.
public final class FileProvider: SizedPageProvider, CustomStringConvertible {
  /// The path as it was given.
  public let path: String

  /// The type and the path, as messages about a page name them.
  public var description: String { "FileProvider(\(path))" }

  /// The length of the file when it was opened, in bytes.
  public let byteCount: Int

  /// How much is read for one fault.
  public let requestSize: RequestSize

  private let file: File

  private struct File: ~Copyable, Sendable {
    let descriptor: CInt
    deinit { _ = cuffd_close(descriptor) }
  }

  /// Opens a regular file for reading.
  ///
  /// - Parameters:
  ///   - path: the file.
  ///   - requestSize: how much to read for one fault; one page, and up to 256 KiB while accesses run on, unless told.
  /// - Throws: ``FileProviderError`` where the file cannot be opened or is not a regular file.
  public init(
    _ path: String,
    requestSize: RequestSize = RequestSize(preferred: 1, largest: 256 << 10)
  ) throws(FileProviderError) {
    let opened = unsafe cuffd_file_open(path)
    if let errno = KernelErrno(returned: opened) {
      throw FileProviderError(code: .cannotOpen, path: path, errno: errno)
    }
    let file = File(descriptor: opened)
    var facts = cuffd_file_facts()
    if let errno = unsafe KernelErrno(returned: cuffd_file_facts_of(file.descriptor, &facts)) {
      throw FileProviderError(code: .cannotOpen, path: path, errno: errno)
    }
    if facts.format == CUFFD_FORMAT_DIRECTORY {
      throw FileProviderError(code: .notARegularFile, path: path, errno: .isDirectory)
    }
    guard facts.format == CUFFD_FORMAT_REGULAR else {
      throw FileProviderError(code: .notARegularFile, path: path)
    }
    self.path = path
    self.byteCount = Int(facts.size)
    self.requestSize = requestSize
    self.file = file
  }

  /// Yes: `pread(2)` is safe in a signal handler. The faulting thread waits for the file either way.
  public var mayRunInFaultingThread: Bool { true }

  /// Reads the wanted bytes. Blocks as long as `pread(2)` does.
  public func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    while page.count < request.byteCount {
      let offset = request.offset + page.count
      var failure: KernelErrno?
      let before = page.count
      unsafe page.appendUnsafely { free in
        let result = unsafe cuffd_file_pread(file.descriptor, free.baseAddress!, free.count, Int64(offset))
        guard result < 0 else { return Int(result) }
        failure = KernelErrno(rawValue: CInt(-result))
        return 0
      }
      if let failure {
        throw FileProviderError(code: .cannotRead, path: path, offset: offset, errno: failure)
      }
      if page.count == before {
        throw FileProviderError(code: .truncated, path: path, offset: offset)
      }
    }
    return .filled
  }
}

/// Why a file could not be opened or read.
public struct FileProviderError: Error, Hashable, Sendable {
  /// What kind of failure it was. More may be added.
  public struct Code: Hashable, Sendable {
    fileprivate enum Kind { case cannotOpen, notARegularFile, cannotRead, truncated }
    fileprivate let kind: Kind

    /// `open(2)` or `fstat(2)` failed; `errno` says why.
    public static let cannotOpen = Code(kind: .cannotOpen)
    /// It is a directory (`EISDIR`), a device, a pipe or a socket.
    public static let notARegularFile = Code(kind: .notARegularFile)
    /// `pread(2)` failed; `errno` says why.
    public static let cannotRead = Code(kind: .cannotRead)
    /// The file ends before `offset`: it was shortened after it was opened.
    public static let truncated = Code(kind: .truncated)
  }

  /// What kind of failure it was.
  public var code: Code
  /// The file.
  public var path: String
  /// Where in the file, in bytes, for failures of reading.
  public var offset: Int?
  /// The kernel's reason, where there is one.
  public var errno: KernelErrno?
}

extension FileProviderError: CustomStringConvertible {
  /// One line: what failed, where, and why.
  public var description: String {
    let reason = errno.map { " (\($0): \($0.explanation))" } ?? ""
    return switch code.kind {
    case .cannotOpen: "cannot open \(path)\(reason)"
    case .notARegularFile: "\(path) is not a regular file\(reason)"
    case .cannotRead: "cannot read \(path) at offset \(offset ?? 0)\(reason)"
    case .truncated: "\(path) was truncated while it was mapped: nothing is left at offset \(offset ?? 0)"
    }
  }
}
