internal import CUFFD

/// Memory in which a handler thread assembles an answer. It grows to the largest request that it has met, and stays.
struct StagingBuffer: ~Copyable {
  private var address: UInt = 0
  private var capacity = 0

  private static let firstByteCount = 64 << 10

  init() {}

  /// With memory for small requests from the beginning: at the limit of mappings there is none to be had.
  init(reservingFor pageSize: PageSize) { reserve(for: pageSize) }

  /// Has memory for small requests from now on.
  mutating func reserve(for pageSize: PageSize) {
    if capacity == 0 { _ = grow(to: Self.firstByteCount, pageSize) }
  }

  deinit {
    if capacity > 0 { _ = cuffd_unmap(UInt64(address), capacity) }
  }

  /// The first `byteCount` bytes; nil where there is no memory for them. What is in them is left over.
  @inline(__always)
  mutating func bytes(_ byteCount: Int, pageSize: PageSize) -> UnsafeMutableRawBufferPointer? {
    if byteCount > capacity, !grow(to: byteCount, pageSize) { return nil }
    return unsafe UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(bitPattern: address), count: byteCount)
  }

  private mutating func grow(to byteCount: Int, _ pageSize: PageSize) -> Bool {
    guard let rounded = pageSize.roundUp(byteCount) else { return false }
    var mapped: UnsafeMutableRawPointer?
    guard unsafe cuffd_map_anonymous(rounded, true, &mapped) == 0 else { return false }
    if capacity > 0 { _ = cuffd_unmap(UInt64(address), capacity) }
    address = UInt(bitPattern: mapped)
    capacity = rounded
    return true
  }
}
