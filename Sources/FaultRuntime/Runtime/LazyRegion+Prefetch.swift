internal import CUFFD

extension LazyRegion {
  /// Makes the pages that hold `range` resident, without a fault for each, and returns when they are.
  ///
  /// Missing pages are asked for in requests as large as the provider likes; pages that are there already keep their
  /// bytes. Whole huge pages of a writable region are assembled aside and moved in (`UFFDIO_MOVE`).
  ///
  /// With the event loop the work is done on the region's handler thread, or on the pool where the provider may block,
  /// a step at a time, and faults go first; a fault on a page that is on its way waits for it. With
  /// `sigbus` and `sigsegv` it is done on the calling thread; a page that another thread touches meanwhile may be asked
  /// for twice. From 16 MiB on, where there is more than one CPU and the provider may run in the faulting thread, two
  /// threads share the work: the calling thread helps the handler, and with `sigbus` a thread is started that helps the
  /// caller.
  ///
  /// Blocks as long as the provider takes, and takes locks. May be called from any thread of the program's own. From a
  /// provider or a hook, on a thread of the runtime that would have to do the work, it is an error; in a signal handler
  /// it must not be called.
  ///
  /// - Parameter range: offsets in bytes, within `0..<byteCount`. An empty range does nothing.
  /// - Throws: ``FaultRuntimeError`` with the code
  ///   - `rangeOutOfBounds` where the range is not within the region;
  ///   - `regionClosed` where the region was closed, before or meanwhile;
  ///   - `forkedChild` in a forked child;
  ///   - `prefetchFromProvider` on a thread that would have to do the work;
  ///   - `pageFailed` where a page cannot be had, or the program has unmapped or moved a part of the range;
  ///     ``FaultRuntimeError/failure`` says which page and why. Pages before that one are resident; the page itself is
  ///     not poisoned, and is asked for again when it is touched.
  public func prefetch(_ range: Range<Int>) throws(FaultRuntimeError) {
    guard let pages = try pages(of: range) else { return }
    try fill(pages)
  }

  /// The pages that hold a range, as offsets; nil where it is empty.
  func pages(of range: Range<Int>) throws(FaultRuntimeError) -> Range<Int>? {
    guard range.lowerBound >= 0, range.upperBound <= byteCount else { throw .rangeOutOfBounds(core, range) }
    guard !isClosed else { throw .regionClosed(core) }
    guard core.isInOwnerProcess else { throw .forkedChild() }
    guard !range.isEmpty else { return nil }
    let end = min(core.pageSize.roundUp(range.upperBound) ?? Int.max, core.range.byteCount)
    let pages = core.pageSize.roundDown(range.lowerBound)..<end
    let start = core.range.start &+ UInt(bitPattern: pages.lowerBound)
    // What lies there now is somebody else's.
    guard core.memory.parts.withLock({ $0.contain(AddressRange(start: start, byteCount: pages.count)) }) else {
      throw .pageFailed(core.failure(ResolutionError.refused(.noSuchFileOrDirectory), atPage: start))
    }
    return pages
  }

  private func fill(_ pages: Range<Int>) throws(FaultRuntimeError) {
    guard let failure = try server.prefetch(core, pages) else { return }
    if core.isClosing { throw .regionClosed(core) }
    throw .pageFailed(core.failure(failure.cause, atPage: failure.page))
  }

  /// Asks again for the pages of `range` that have failed, and cures those that come: touching them works from then on.
  /// Pages that have not failed are left alone. A page is also cured by an answer that covers it, and by
  /// ``prefetch(_:)``.
  ///
  /// Blocks as ``prefetch(_:)`` does, and may be called from the same threads. Takes locks, and makes a request for
  /// each page.
  ///
  /// - Parameter range: offsets in bytes, within `0..<byteCount`.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `forkedChild`,
  ///   `prefetchFromProvider` or `pageFailed`, for the reasons that ``prefetch(_:)`` names. Pages that fail again stay
  ///   poisoned, and those behind
  ///   the first of them as they are.
  public func retry(_ range: Range<Int>) throws(FaultRuntimeError) {
    guard let pages = try pages(of: range) else { return }
    for offset in core.failures.offsets(in: pages) {
      do {
        try fill(offset..<(offset + pageSize))
        core.failures.noteCured(offset)
      } catch {
        if let failure = error.failure { core.failures.record(failure) }
        throw error
      }
    }
  }

  /// Why the page that holds `offset` could not be produced, as long as it is not there; nil where nothing failed,
  /// where the page has come since, and where `offset` is not in the region. At most 16,384 pages are known, the same
  /// as in ``failures``.
  ///
  /// Takes locks, and makes a system call for a page that failed; may be called from any thread.
  public func failure(at offset: Int) -> PageFailure? {
    guard (0..<core.range.byteCount).contains(offset) else { return nil }
    let page = core.pageSize.roundDown(offset)
    guard let failure = core.failures.failure(at: page) else { return nil }
    let address = core.range.start &+ UInt(bitPattern: page)
    // In the place of memory that was moved or unmapped there may be somebody else's by now.
    if let place = core.memory.parts.withLock({ $0.place(of: address) }), core.memory.isThere(place) {
      core.failures.noteCured(page)
      return nil
    }
    return failure
  }

  /// Makes the whole region resident; otherwise as ``prefetch(_:)``, and may be called from the same threads.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `regionClosed`, `forkedChild`, `prefetchFromProvider` or
  ///   `pageFailed`, for the reasons that ``prefetch(_:)`` names.
  public func populate() throws(FaultRuntimeError) {
    try prefetch(0..<byteCount)
  }
}
