/// Pages that could not be produced: why, and another try.
extension LazyRegion {
  /// Requests the pages of `range` that have failed once more. A page that comes is cured: touching it works from
  /// then on. Pages that have not failed are left alone. A page is also cured by an answer that covers it, and by
  /// ``prefetch(_:)``.
  ///
  /// The method blocks as ``prefetch(_:)`` does, and may be called from the same threads. It takes locks, and makes
  /// one request for each page.
  ///
  /// - Parameter range: offsets in bytes, within `0..<byteCount`.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`, for the reasons that ``prefetch(_:)`` names. The method ends at the
  ///   first page that fails again. That page stays poisoned, and the pages behind it stay as they are.
  public func retry(_ range: Range<Int>) throws(FaultRuntimeError) {
    guard let pages = try pages(of: range) else { return }
    try core.failures.forEachOffset(in: pages) { offset throws(FaultRuntimeError) in
      do throws(FaultRuntimeError) {
        try fill(offset..<(offset + pageSize))
        core.failures.noteCured(offset)
      } catch {
        if let failure = error.failure { core.failures.record(failure) }
        throw error
      }
    }
  }

  /// Returns why the page that holds `offset` could not be produced. Returns nil where the page has not failed, where
  /// it has come since, and where `offset` is not in the region. The region remembers at most 16,384 pages, the same
  /// as in ``failures``.
  ///
  /// The method takes locks, and makes a system call for a page that has failed. It may be called from any thread.
  public func failure(at offset: Int) -> PageFailure? {
    guard (0..<core.range.byteCount).contains(offset) else { return nil }
    let page = core.pageSize.roundDown(offset)
    guard let failure = core.failures.failure(at: page) else { return nil }
    let address = core.range.start &+ UInt(bitPattern: page)
    // The program may have put other memory in the place of pages that it has moved or unmapped.
    if let place = core.memory.parts.withLock({ $0.place(of: address) }), core.memory.isThere(place) {
      core.failures.noteCured(page)
      return nil
    }
    return failure
  }
}
