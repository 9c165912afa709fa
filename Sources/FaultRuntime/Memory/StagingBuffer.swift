internal import CUFFD

/// Memory in which a thread assembles an answer. It grows to the size of the largest request so far, and never shrinks.
struct StagingBuffer: ~Copyable {
  private var address: UInt = 0
  private var capacity = 0

  private static let firstByteCount = 64 << 10

  init() {}

  /// Creates a buffer that has memory for small requests at once, because no memory can be mapped later at the
  /// limit of mappings.
  init(reservingFor pageSize: PageSize) { reserve(for: pageSize) }

  /// Maps memory for small requests, if the buffer has no memory yet.
  mutating func reserve(for pageSize: PageSize) {
    if capacity == 0 { _ = grow(to: Self.firstByteCount, pageSize) }
  }

  deinit {
    if capacity > 0 { _ = cuffd_unmap(UInt64(address), capacity) }
  }

  /// Returns the first `byteCount` bytes, which contain arbitrary data. Returns nil if there is no memory for them.
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
