import TestSupport

@testable import FaultRuntime

/// What of the host it takes the inside of the library to find out.
extension Host {
  static let kernelModeFaults = isAvailable(.full)
  static let userModeOnly = isAvailable(.userModeOnly)
  /// Whether this process may open the device that keeps CPUs awake.
  static let cpuLatency = (try? CPULatencyHold()) != nil

  private static func isAvailable(_ kind: DescriptorKind) -> Bool {
    (try? Userfaultfd.probe(kind)) != nil
  }
}
