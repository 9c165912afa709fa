internal import CUFFD

/// Gives pages back while the rest of the memory stays in use.
extension TwinMemory {
  func discard(_ part: AddressRange) -> KernelErrno? {
    holdingSignals { runs.withLock { runs in discard(part, &runs) } }
  }

  private func discard(_ part: AddressRange, _ runs: inout Int) -> KernelErrno? {
    guard !isRevoked else { return nil }
    let first = index(of: part.start)
    let pages = first..<(first + part.byteCount / pageSize.bytes)
    let before = countRuns(around: pages)
    var failure = close(pages)
    if failure != nil {
      // The kernel may have closed some of the pages before the error. One page at a time shows which ones.
      failure = nil
      for page in pages { failure = close(page..<(page + 1)) ?? failure }
    }
    guard !isGuarded else { return failure }
    let added = countRuns(around: pages) - before
    runs += added
    if added != 0 { budget.add(added) }
    if added < 0 { reserve?.restore() }
    return failure
  }

  /// Takes the access to pages away, and then their bytes. A thread that touches a page meanwhile tries again until the
  /// state of the page says that it is absent, or waits for the lock.
  private func close(_ pages: Range<Int>) -> KernelErrno? {
    let target = AddressRange(
      start: range.start &+ UInt(bitPattern: pages.lowerBound * pageSize.bytes),
      byteCount: pages.count * pageSize.bytes)
    let result =
      isGuarded
      ? cuffd_guards_install(UInt64(target.start), target.byteCount)
      : cuffd_protect_none(UInt64(target.start), target.byteCount)
    if let errno = KernelErrno(returned: result) { return errno }
    removePages(target)
    for page in pages { setState(page, PageState.absent) }
    return nil
  }

  /// Returns the number of runs of open pages that have a page in `pages` or next to them.
  private func countRuns(around pages: Range<Int>) -> Int {
    let seen = max(0, pages.lowerBound - 1)..<min(pageCount, pages.upperBound + 1)
    return seen.count { page in
      state(page) == PageState.open && (page == seen.lowerBound || state(page - 1) != PageState.open)
    }
  }
}
