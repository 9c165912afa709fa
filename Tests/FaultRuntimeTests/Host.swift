import TestSupport

@testable import FaultRuntime

/// Properties of the host that only the internals of the library show.
extension Host {
  static let kernelModeFaults = isAvailable(.full)
  static let userModeOnly = isAvailable(.userModeOnly)
  /// Whether this process may open the device that keeps CPUs awake.
  static let cpuLatency = (try? CPULatencyHold()) != nil

  /// Whether this process may use EVENT_FORK. If not, `UFFDIO_API` fails with that feature.
  static let forkEvents = (try? Userfaultfd.open(DescriptorKind.allCases, wanting: .eventFork)) != nil

  private static func isAvailable(_ kind: DescriptorKind) -> Bool {
    (try? Userfaultfd.probe(kind)) != nil
  }
}
