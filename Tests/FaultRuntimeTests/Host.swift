import TestSupport

@testable import FaultRuntime

/// What of the host it takes the inside of the library to find out.
extension Host {
  static let kernelModeFaults = isAvailable(.full)
  static let userModeOnly = isAvailable(.userModeOnly)
  /// Whether this process may open the device that keeps CPUs awake.
  static let cpuLatency = (try? CPULatencyHold()) != nil

  /// EVENT_FORK makes `UFFDIO_API` fail for whoever may not use it.
  static let forkEvents = (try? Userfaultfd.open(DescriptorKind.allCases, wanting: .eventFork)) != nil

  private static func isAvailable(_ kind: DescriptorKind) -> Bool {
    (try? Userfaultfd.probe(kind)) != nil
  }
}
