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
  /// The path, for messages. Control characters and bytes that are not UTF-8 are shown as `\xNN`, a NUL as `\0`.
  public let path: String

  /// The path as the kernel knows it.
  public let pathBytes: [UInt8]

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
  ///   - path: the file. A relative path starts at the current directory.
  ///   - requestSize: how much to read for one fault, in bytes; one page, and up to 256 KiB while accesses run on, unless told.
  /// - Throws: ``FileProviderError`` with the code `cannotOpen`, `invalidPath` (the path has a NUL in it) or `notARegularFile`.
  public convenience init(
    _ path: String,
    requestSize: RequestSize = RequestSize(preferred: 1, largest: 256 << 10)
  ) throws(FileProviderError) {
    try self.init(pathBytes: path.utf8, requestSize: requestSize)
  }

  /// Opens a regular file for reading, whose name may be any bytes: names on Linux need not be UTF-8, and a `String` cannot
  /// hold one that is not.
  ///
  /// - Parameters:
  ///   - pathBytes: the path, without the zero byte that ends it in C.
  ///   - requestSize: how much to read for one fault, in bytes; one page, and up to 256 KiB while accesses run on, unless told.
  /// - Throws: ``FileProviderError`` with the code `cannotOpen`, `invalidPath` (the path has a zero byte in it) or
  ///   `notARegularFile`.
  public init(
    pathBytes: some Collection<UInt8>,
    requestSize: RequestSize = RequestSize(preferred: 1, largest: 256 << 10)
  ) throws(FileProviderError) {
    let path = readableText(pathBytes)
    // The kernel would open what is before it.
    guard !pathBytes.contains(0) else { throw FileProviderError(code: .invalidPath, path: path) }
    let opened = unsafe cuffd_file_open(pathBytes.map { CChar(bitPattern: $0) } + [0])
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
    self.pathBytes = Array(pathBytes)
    self.byteCount = Int(facts.size)
    self.requestSize = requestSize
    self.file = file
  }

  /// `pread(2)` is safe in a signal handler, and the thread that faulted waits for the file in any case. A handler thread must not
  /// wait for it.
  public var permissions: ProviderPermissions { [.concurrentRequests, .signalHandler] }

  /// Reads the wanted bytes, at any offset. Blocks as long as `pread(2)` does.
  ///
  /// - Throws: ``FileProviderError`` with the code `cannotRead` or `truncated`.
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
