package import FaultRuntime
import Glibc

/// What this host allows, as far as it does not take the inside of the library to find out. Tests that need more are skipped
/// with a `SkipReason`.
package enum Host {
  package static let isRoot = geteuid() == 0
  /// Whether a sanitizer is built in, which needs mappings and memory of its own.
  package static let isSanitized = unsafe dlsym(nil, "__tsan_init") != nil || dlsym(nil, "__asan_init") != nil
  /// Whether this process may open the device.
  package static let device = unsafe access("/dev/userfaultfd", R_OK | W_OK) == 0
  /// What the kernel offers whoever gets a userfaultfd; nothing where none can be had.
  package static let features = HostReport().features.filter { $0.isAvailable == true }.reduce(
    into: UserfaultfdFeatures()
  ) { $0.insert(UserfaultfdFeatures(rawValue: 1 << UInt64($1.bit))) }

  package static func has(_ features: UserfaultfdFeatures) -> Bool { Self.features.isSuperset(of: features) }

  /// What the kernel's own rules say, without asking it for a descriptor.
  package static func shouldAllow(_ kind: DescriptorKind) -> Bool {
    switch kind {
    case .full: hasPtraceCapability || lines("/proc/sys/vm/unprivileged_userfaultfd").first == "1"
    case .device, .deviceUserModeOnly: device
    default: true
    }
  }

  private static var hasPtraceCapability: Bool {
    let mask = UInt64(words(of: "CapEff", in: "/proc/self/status").first ?? "", radix: 16) ?? 0
    return mask & (1 << 19) != 0
  }
}
