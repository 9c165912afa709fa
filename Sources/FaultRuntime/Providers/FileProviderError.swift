/// An error of a ``FileProvider``: a file could not be opened or read.
///
/// ```swift
/// do throws(FileProviderError) {
///   return try FileProvider(path)
/// } catch where error.errno == .noSuchFileOrDirectory {
///   return nil
/// }
/// ```
public struct FileProviderError: Error, Hashable, Sendable {
  /// The kind of a failure. Later versions may add more kinds.
  public struct Code: Hashable, Sendable {
    fileprivate enum Kind: String { case cannotOpen, invalidPath, notARegularFile, cannotRead, truncated }
    fileprivate let kind: Kind

    /// `open(2)` or `fstat(2)` failed. ``FileProviderError/errno`` says why.
    public static let cannotOpen = Code(kind: .cannotOpen)
    /// The path contains a zero byte (NUL). The kernel would take the path to end there.
    public static let invalidPath = Code(kind: .invalidPath)
    /// The file is a directory (``FileProviderError/errno`` is then `EISDIR`), a device, a pipe or a socket.
    public static let notARegularFile = Code(kind: .notARegularFile)
    /// `pread(2)` failed. ``FileProviderError/errno`` says why.
    public static let cannotRead = Code(kind: .cannotRead)
    /// The file ends at ``FileProviderError/offset`` or before it. It was truncated after it was opened, or the
    /// request goes beyond its end.
    public static let truncated = Code(kind: .truncated)
  }

  /// The kind of the failure.
  public var code: Code
  /// The path of the file, as text for messages. Control characters and bytes that are not UTF-8 are shown as `\xNN`,
  /// and a NUL is shown as `\0`.
  public var path: String
  /// The offset in the file where reading failed, in bytes. For failures to open the file it is nil.
  public var offset: Int?
  /// The kernel's reason, or nil if the kernel gave none.
  public var errno: KernelErrno?
}

extension FileProviderError.Code: CustomStringConvertible {
  /// The name of the constant, such as `cannotOpen`.
  public var description: String { kind.rawValue }
}

extension FileProviderError: CustomStringConvertible {
  /// One line that says what failed, where, and why.
  public var description: String {
    let reason = errno.map { " (\($0): \($0.explanation))" } ?? ""
    return switch code.kind {
    case .cannotOpen: "cannot open \(path)\(reason)"
    case .invalidPath:
      "cannot open \(path): the path has a zero byte (NUL) in it, where the kernel would take it to end"
    case .notARegularFile: "\(path) is not a regular file\(reason)"
    case .cannotRead: "cannot read \(path) at offset \(offset ?? 0)\(reason)"
    case .truncated: "\(path) was truncated while it was mapped: nothing is left at offset \(offset ?? 0)"
    }
  }
}
