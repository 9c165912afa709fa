/// One bit of what a userfaultfd can do, and whether this kernel has it.
///
/// ```swift
/// for feature in HostReport().features where feature.isAvailable == false {
///   print(feature.name, "needs Linux", feature.since ?? "?")
/// }
/// ```
public struct HostFeature: Hashable, Sendable {
  /// The number of the bit in `uffdio_api.features`.
  public let bit: Int
  /// The name in the kernel's header, without `UFFD_FEATURE_`.
  public let name: String
  /// The first kernel version that has the feature, such as `6.6`; nil for a bit that is newer than this library.
  public let since: String?
  /// Whether this kernel has the feature; nil where the process gets no descriptor to ask.
  public let isAvailable: Bool?
}

extension HostFeature {
  private static let known: [(name: String, since: String)] = [
    ("PAGEFAULT_FLAG_WP", "5.7"), ("EVENT_FORK", "4.11"), ("EVENT_REMAP", "4.11"), ("EVENT_REMOVE", "4.11"),
    ("MISSING_HUGETLBFS", "4.11"), ("MISSING_SHMEM", "4.11"), ("EVENT_UNMAP", "4.11"), ("SIGBUS", "4.14"),
    ("THREAD_ID", "4.14"), ("MINOR_HUGETLBFS", "5.13"), ("MINOR_SHMEM", "5.14"), ("EXACT_ADDRESS", "5.18"),
    ("WP_HUGETLBFS_SHMEM", "5.19"), ("WP_UNPOPULATED", "6.4"), ("POISON", "6.6"), ("WP_ASYNC", "6.7"), ("MOVE", "6.8"),
  ]

  /// Returns all bits that the library knows, and then the bits that only this kernel knows.
  static func all(of available: UserfaultfdFeatures?) -> [HostFeature] {
    func has(_ bit: Int) -> Bool? { available.map { $0.rawValue & 1 << UInt64(bit) != 0 } }
    let named = known.enumerated().map { bit, feature in
      HostFeature(bit: bit, name: feature.name, since: feature.since, isAvailable: has(bit))
    }
    let unnamed = (known.count..<UInt64.bitWidth).filter { has($0) == true }.map { bit in
      HostFeature(bit: bit, name: "bit \(bit)", since: nil, isAvailable: true)
    }
    return named + unnamed
  }
}
