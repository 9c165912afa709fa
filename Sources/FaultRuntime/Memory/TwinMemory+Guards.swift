internal import CUFFD

/// Tells missing pages by guard markers. They cost no mapping, so there is nothing to count.
extension TwinMemory {
  /// The largest region with guard markers, in bytes. A marker takes 8 bytes of page tables, and about 30 ns when the
  /// region is mapped.
  static let largestGuarded = 16 << 30

  /// Puts a guard marker in the place of every page of new memory, and then gives the mapping its access, so that only
  /// the markers hold the pages back.
  static func guardAll(_ range: AddressRange, isWritable: Bool) -> KernelErrno? {
    KernelErrno(returned: cuffd_guards_install(UInt64(range.start), range.byteCount))
      ?? KernelErrno(returned: cuffd_twin_open(UInt64(range.start), range.byteCount, isWritable))
  }

  /// Opens pages that have been filled, up to the first one where other memory is mapped. The caller holds the lock.
  func unguardOwn(_ target: AddressRange, areZeros: Bool) -> ResolutionStep {
    let count = target.byteCount / pageSize.bytes
    var own = 0
    if areZeros {
      if let errno = countOwnZeros(target, count, &own) { return .fail(errno) }
    } else {
      own = cuffd_own_pages(UInt64(target.start), count, pageSize.bytes)
    }
    if own < count { removePages(target.dropping(own * pageSize.bytes)) }
    // The program has put other memory there, or has moved other pages of this memory there.
    guard own > 0 else { return .fail(.noSuchFileOrDirectory) }
    let opened = target.prefix(own * pageSize.bytes)
    if let errno = KernelErrno(returned: cuffd_guards_remove(UInt64(opened.start), opened.byteCount)) {
      // Some of the markers may be gone. The bytes go only if all of them are there again.
      if cuffd_guards_install(UInt64(opened.start), opened.byteCount) >= 0 { removePages(opened) }
      return .fail(errno)
    }
    #if DEBUG
      afterOpening.withLock { $0 }?()
    #endif
    let first = index(of: target.start)
    for page in first..<(first + own) { setState(page, PageState.open) }
    return own == count ? .done : .goOn(completed: opened.byteCount)
  }

  /// Finds out how many of the pages of an answer of zeros are mapped at their places. Pages of zeros get no memory
  /// before they are touched, but a page without memory does not tell where it is mapped. So only the first and the
  /// last page get memory now, and are looked at.
  private func countOwnZeros(_ target: AddressRange, _ count: Int, _ own: inout Int) -> KernelErrno? {
    if let errno = allocate(target.prefix(pageSize.bytes)) { return errno }
    own = cuffd_own_pages(UInt64(target.start), 1, pageSize.bytes)
    guard own == 1, count > 1 else { return nil }
    let last = target.dropping((count - 1) * pageSize.bytes)
    if let errno = allocate(last) { return errno }
    if cuffd_own_pages(UInt64(last.start), 1, pageSize.bytes) == 1 { own = count }
    return nil
  }
}
