internal import CUFFD

extension AddressRange {
  /// Maps anonymous memory for a region: it reserves no swap, a forked child does not inherit it, and it certainly has no page
  /// yet (`mmap(2)`, `MADV_DONTFORK`).
  ///
  /// - Parameters:
  ///   - byteCount: whole pages.
  ///   - alignment: a power of two of which the address is a multiple; 0 where any page will do.
  ///   - isTaken: whether a range is another region's, although nothing is mapped there at the moment: the program may have
  ///     unmapped a part of that region, and what its requests bring must not land in this one.
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
      // The hole is kept until another place is found, or the kernel would name it again.
      holes.append(range)
    }
  }
}
