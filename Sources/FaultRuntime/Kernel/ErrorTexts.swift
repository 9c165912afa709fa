internal import CUFFD

extension KernelErrno {
  /// The C library's text for this number, such as "Cannot allocate memory".
  public var explanation: String {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
      unsafe String(cString: cuffd_error_text(rawValue, buffer.baseAddress!, buffer.count))
    }
  }
}

// The text of an error has that of its errno in it, which the C library knows.
extension FaultRuntimeError: CustomStringConvertible {
  /// One line: message, errno by name, advice.
  public var description: String {
    let reason = errno.map { " (\($0): \($0.explanation))" } ?? ""
    return message + reason + (advice.map { "; \($0)" } ?? "")
  }
}
