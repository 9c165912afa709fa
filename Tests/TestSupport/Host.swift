package import FaultRuntime
import Glibc

/// What this host allows, as far as the public interface of the library shows it. Tests that need more are skipped
/// with a `SkipReason`.
package enum Host {
  package static let isRoot = geteuid() == 0
  /// Whether the process runs with a sanitizer, which needs mappings and memory of its own.
  package static let isSanitized = unsafe dlsym(nil, "__tsan_init") != nil || dlsym(nil, "__asan_init") != nil
  /// Whether this process may open the device.
  package static let device = unsafe access("/dev/userfaultfd", R_OK | W_OK) == 0
  /// Whether a setting of the kernel allows every user a userfaultfd that serves system calls.
  package static let allowsFullToAll = lines("/proc/sys/vm/unprivileged_userfaultfd").first == "1"
  /// The features that the kernel offers for a userfaultfd; empty if this process cannot have one.
  package static let features = HostReport().features.filter { $0.isAvailable == true }.reduce(
    into: UserfaultfdFeatures()
  ) { $0.insert(UserfaultfdFeatures(rawValue: 1 << UInt64($1.bit))) }

  package static func has(_ features: UserfaultfdFeatures) -> Bool { Self.features.isSuperset(of: features) }

  /// Returns whether the kernel's rules allow the descriptor. Does not ask the kernel for one.
  package static func shouldAllow(_ kind: DescriptorKind) -> Bool {
    switch kind {
    case .full: hasPtraceCapability || allowsFullToAll
    case .device, .deviceUserModeOnly: device
    default: true
    }
  }

  private static var hasPtraceCapability: Bool {
    let mask = UInt64(words(of: "CapEff", in: "/proc/self/status").first ?? "", radix: 16) ?? 0
    return mask & (1 << 19) != 0
  }
}
