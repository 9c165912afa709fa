internal import CUFFD

extension AddressRange {
  /// Maps anonymous memory for a region. The memory reserves no swap, a forked child does not inherit it
  /// (`MADV_DONTFORK`), and it is certain to contain no page yet.
  ///
  /// - Parameters:
  ///   - byteCount: the length in whole pages.
  ///   - alignment: a power of two of which the address is a multiple; 0 if every page address is suitable.
  ///   - isTaken: whether a range belongs to another region although nothing is mapped there at the moment. The program
  ///     may have unmapped a part of that region, and the answers to its requests must not land in the new region.
  static func reservedForRegion(
    byteCount: Int, alignment: Int, isWritable: Bool, isTaken: (AddressRange) -> Bool
  ) throws(HostCallError) -> AddressRange {
    var holes: [AddressRange] = []
    defer { for hole in holes { _ = cuffd_unmap(UInt64(hole.start), hole.byteCount) } }
    while true {
      var address: UnsafeMutableRawPointer?
      if let errno = unsafe KernelErrno(returned: cuffd_map_lazy(byteCount, alignment, isWritable, &address)) {
        throw HostCallError(call: "mmap", errno: errno)
      }
      let range = AddressRange(start: UInt(bitPattern: address), byteCount: byteCount)
      guard isTaken(range) else { return range }
      // The hole stays mapped until another place is found, because the kernel would choose it again otherwise.
      holes.append(range)
    }
  }
}
