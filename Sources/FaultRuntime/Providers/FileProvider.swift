internal import CUFFD

/// A provider of the bytes of a regular file, which it reads with `pread(2)`.
///
/// ```swift
/// let weights = try runtime.map(FileProvider("weights.bin"))
/// ```
///
/// The length is that of the file when it was opened. If the file is truncated later, pages beyond its new end fail
/// with a ``FileProviderError`` of the code ``FileProviderError/Code-swift.struct/truncated``; they do not read as
/// zero. If the contents of the file change, pages that become resident later have the new bytes, and resident pages
/// keep the old ones.
///
/// For a local file alone, plain `mmap(2)` is faster. This provider does what `mmap(2)` cannot do: a failed read is
/// an error with its cause and not a bare SIGBUS, a resident page keeps its bytes when the file changes, and other
/// providers can build on the file.
///
/// The provider holds one file descriptor until the last reference to it is released. Any thread may use the
/// provider, and several threads may ask it at the same time.
public final class FileProvider: SizedPageProvider, CustomStringConvertible {
  /// The path as text for messages. Control characters and bytes that are not UTF-8 are shown as `\xNN`, and a NUL is
  /// shown as `\0`.
  public let path: String

  /// The bytes of the path, as the kernel knows it.
  public let pathBytes: [UInt8]

  /// The name of the type and the path. Messages about a page use this text.
  public var description: String { "FileProvider(\(path))" }

  /// The length of the file when it was opened, in bytes.
  public let byteCount: Int

  /// The number of bytes that the provider reads for one request.
  public let requestSize: RequestSize

  private let file: File

  private struct File: ~Copyable, Sendable {
    let descriptor: CInt
    /// What the file was when it was opened. The program may close the descriptor, and another file may get its number.
    let facts: cuffd_file_facts

    deinit { unsafe withUnsafePointer(to: facts) { unsafe cuffd_file_close_same(descriptor, $0) } }

    /// Returns the number of bytes that were read, or a negative errno.
    func read(_ offset: Int, into buffer: UnsafeMutableRawBufferPointer) -> Int {
      unsafe withUnsafePointer(to: facts) {
        unsafe Int(
          cuffd_file_pread_same(descriptor, $0, buffer.baseAddress!, buffer.count, Int64(offset)))
      }
    }
  }

  /// Opens a regular file for reading. Blocks as long as `open(2)` and `fstat(2)` do.
  ///
  /// - Parameters:
  ///   - path: the path of the file. A relative path starts at the current directory.
  ///   - requestSize: the number of bytes to read for one request. By default this is one page, and up to 256 KiB
  ///     while accesses run on.
  /// - Throws: ``FileProviderError`` with the code
  ///   - `cannotOpen` if the file cannot be opened or examined;
  ///   - `invalidPath` if the path contains a NUL;
  ///   - `notARegularFile` if the file is a directory, a device, a pipe or a socket.
  public convenience init(
    _ path: String,
    requestSize: RequestSize = RequestSize(preferred: 1, largest: 256 << 10)
  ) throws(FileProviderError) {
    try self.init(pathBytes: path.utf8, requestSize: requestSize)
  }

  /// Opens a regular file for reading, by a name of any bytes. A file name on Linux need not be UTF-8, and a `String`
  /// cannot hold a name that is not. Blocks as long as `open(2)` and `fstat(2)` do.
  ///
  /// - Parameters:
  ///   - pathBytes: the path, without the zero byte that ends it in C. A relative path starts at the current
  ///     directory.
  ///   - requestSize: the number of bytes to read for one request. By default this is one page, and up to 256 KiB
  ///     while accesses run on.
  /// - Throws: ``FileProviderError`` with the code
  ///   - `cannotOpen` if the file cannot be opened or examined;
  ///   - `invalidPath` if the path contains a zero byte;
  ///   - `notARegularFile` if the file is a directory, a device, a pipe or a socket.
  public init(
    pathBytes: some Collection<UInt8>,
    requestSize: RequestSize = RequestSize(preferred: 1, largest: 256 << 10)
  ) throws(FileProviderError) {
    let path = readableText(pathBytes)
    // The kernel would open the file whose path ends before the zero byte.
    guard !pathBytes.contains(0) else { throw FileProviderError(code: .invalidPath, path: path) }
    let opened = unsafe cuffd_file_open(pathBytes.map { CChar(bitPattern: $0) } + [0])
    if let errno = KernelErrno(returned: opened) {
      throw FileProviderError(code: .cannotOpen, path: path, errno: errno)
    }
    var facts = cuffd_file_facts()
    if let errno = unsafe KernelErrno(returned: cuffd_file_facts_of(opened, &facts)) {
      _ = cuffd_close(opened)
      throw FileProviderError(code: .cannotOpen, path: path, errno: errno)
    }
    let file = File(descriptor: opened, facts: facts)
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

  /// The permissions ``ProviderPermissions/concurrentRequests`` and ``ProviderPermissions/signalHandler``.
  ///
  /// `pread(2)` is safe in a signal handler, and the thread that faulted has to wait for the file in any case. A
  /// handler thread of the event loop must not wait for it, so the provider does not permit
  /// ``ProviderPermissions/handlerThread``.
  public var permissions: ProviderPermissions { [.concurrentRequests, .signalHandler] }

  /// Reads the bytes of a request into the buffer. Blocks as long as `pread(2)` does. The offset need not be a
  /// multiple of the page size.
  ///
  /// - Parameters:
  ///   - request: the bytes to read. They have to lie within the file.
  ///   - page: the buffer to fill.
  /// - Returns: ``PageContents/filled``, with all bytes of the request.
  /// - Throws: ``FileProviderError`` with the code
  ///   - `cannotRead` if `pread(2)` fails, or if the program has closed the provider's descriptor or replaced it by
  ///     another file (`EBADF`);
  ///   - `truncated` if the file ends before the request does.
  public func page(_ request: PageRequest, into page: inout PageBuffer) throws -> PageContents {
    while page.count < request.byteCount {
      let offset = request.offset + page.count
      var failure: KernelErrno?
      let before = page.count
      unsafe page.appendUnsafely { free in
        let result = unsafe file.read(offset, into: free)
        guard result < 0 else { return result }
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
