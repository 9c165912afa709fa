internal import CUFFD

extension KernelErrno {
  /// The C library's text for this number, such as "Cannot allocate memory".
  public var explanation: String {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
      unsafe String(cString: cuffd_error_text(rawValue, buffer.baseAddress!, buffer.count))
    }
  }
}
