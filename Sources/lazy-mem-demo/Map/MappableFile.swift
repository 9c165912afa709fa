import FaultRuntime
import Glibc

/// A file to map, and what is wrong with it if it cannot be mapped.
enum MappableFile {
  /// Opens a regular file that has as many bytes as the kernel says.
  ///
  /// - Parameter maybeCommand: Whether the name may be that of a command that does not exist.
  static func open(_ name: FileName, maybeCommand: Bool) throws -> FileProvider {
    var facts = stat()
    let isThere = unsafe name.withCString { unsafe stat($0, &facts) } == 0
    if isThere, let kind = kind(facts.st_mode) {
      throw CommandFailure(message: "\(name.text) is not a regular file but \(kind): only regular files can be mapped")
    }
    let provider: FileProvider
    do throws(FileProviderError) {
      provider = try FileProvider(pathBytes: name.bytes)
    } catch {
      guard maybeCommand, error.errno == .noSuchFileOrDirectory, !name.text.contains("/") else { throw error }
      if let advice = ArgumentAdvice.forCommand(name.text) { throw UsageFailure(message: advice) }
      throw CommandFailure(message: "no such file or command: \(name.text)")
    }
    try checkContent(name, provider.byteCount)
    return provider
  }

  /// Returns what a file is, or nil if it is a regular one.
  private static func kind(_ mode: mode_t) -> String? {
    switch mode & S_IFMT {
    case S_IFDIR: "a directory"
    case S_IFIFO: "a pipe"
    case S_IFSOCK: "a socket"
    case S_IFCHR: "a device"
    case S_IFBLK: "a block device"
    default: nil
    }
  }

  /// Whether the kernel makes the content of a file when it is read: whether it is on the same file system as one of
  /// the folders where such files are.
  private static func isOfKernel(_ descriptor: CInt) -> Bool {
    var facts = stat()
    guard unsafe fstat(descriptor, &facts) == 0 else { return false }
    return ["/proc", "/sys", "/sys/kernel/debug", "/sys/kernel/tracing", "/sys/fs/cgroup"].contains { folder in
      var other = stat()
      return unsafe stat(folder, &other) == 0 && other.st_dev == facts.st_dev
    }
  }

  /// Compares the length with what can be read. Files of `/proc` have content and the length 0, and files of `/sys`
  /// have the length of a page and less content.
  private static func checkContent(_ name: FileName, _ byteCount: Int) throws(CommandFailure) {
    let descriptor = unsafe name.withCString { unsafe Glibc.open($0, O_RDONLY | O_CLOEXEC | O_NONBLOCK) }
    guard descriptor >= 0 else { return }
    defer { close(descriptor) }
    var byte: UInt8 = 0
    let advice = "so it cannot be mapped; map a copy (cat < FILE > COPY)"
    guard byteCount > 0 else {
      // A file of the kernel is not read, because some lose what was read, such as `/proc/kmsg`.
      let hasContent = unsafe isOfKernel(descriptor) || pread(descriptor, &byte, 1, 0) > 0
      throw CommandFailure(
        message: hasContent
          ? "the kernel gives no size for \(name.text), as for most files of /proc, \(advice)"
          : "\(name.text) is empty: there is nothing to map")
    }
    if unsafe pread(descriptor, &byte, 1, off_t(byteCount - 1)) == 0 {
      let size = ByteCount(byteCount).text
      throw CommandFailure(
        message: "the kernel gives \(name.text) a size of \(size), and it has less, as files of /sys do, \(advice)")
    }
  }
}
