import CStressSupport
import CTestSupport

/// The result of a raw access to a byte.
package enum Access: Equatable, Sendable {
  case byte(UInt8)
  case signal(CInt)
  /// The access took longer than any test waits, or the process that was to make it has ended.
  case never
}

/// Reads a byte as a program would, but survives a signal.
package func read(_ address: UInt) -> Access {
  var value: UInt8 = 0
  let signal = unsafe cstress_read(address, &value, 1)
  return signal == 0 ? .byte(value) : .signal(signal)
}

/// Writes a byte as a program would, but survives a signal.
package func write(_ value: UInt8, to address: UInt) -> Access {
  let signal = unsafe withUnsafePointer(to: value) { unsafe cstress_write(address, $0, 1) }
  return signal == 0 ? .byte(value) : .signal(signal)
}

/// Forks a child that reads the byte and does not survive a signal. Returns minus the signal, or an exit status from
/// 100 on.
package func touchInChild(_ address: UInt) -> CInt { cstress_fork(CSTRESS_TOUCH, address) }
