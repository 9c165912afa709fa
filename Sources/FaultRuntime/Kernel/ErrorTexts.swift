internal import CUFFD

extension KernelErrno {
  /// The C library's text for this number, such as "Cannot allocate memory".
  public var explanation: String {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
      unsafe String(cString: cuffd_error_text(rawValue, buffer.baseAddress!, buffer.count))
    }
  }
}

// This conformance is here because the description contains the C library's text for the errno.
extension FaultRuntimeError: CustomStringConvertible {
  /// One line of text: the message, the errno by name and with its explanation, and the advice, as far as the error
  /// has them.
  public var description: String {
    let reason = errno.map { " (\($0): \($0.explanation))" } ?? ""
    return message + reason + (advice.map { "; \($0)" } ?? "")
  }
}
