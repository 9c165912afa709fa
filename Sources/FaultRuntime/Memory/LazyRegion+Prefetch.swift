extension LazyRegion {
  /// Makes the pages that hold `range` resident, without a fault for each, and returns when they are.
  ///
  /// Missing pages are asked for in requests as large as the provider likes; pages that are there already keep their bytes.
  /// Whole huge pages of a writable region are assembled aside and moved in (`UFFDIO_MOVE`).
  ///
  /// With the event loop the work is done on the region's handler thread, or on the pool where the provider may block, a step
  /// at a time, and faults go first; a fault on a page that is on its way waits for it. With
  /// `sigbus` it is done on the calling thread; a page that another thread touches meanwhile may be asked for twice.
  /// From 16 MiB on, where there is more than one CPU and the provider may run in the faulting thread, two threads share the
  /// work: the calling thread helps the handler, and with `sigbus` a thread is started that helps the caller.
  ///
  /// Blocks as long as the provider takes. Not from a provider on the same handler thread, which is an error.
  ///
  /// - Parameter range: offsets in bytes, within `0..<byteCount`. An empty range does nothing.
  /// - Throws: ``FaultRuntimeError`` with the code `rangeOutOfBounds`, `regionClosed`, `prefetchFromProvider`, or
  ///   `pageFailed`, whose ``FaultRuntimeError/failure`` says which page and why. Pages before that one are resident; the
  ///   page itself is not poisoned, and is asked for again when it is touched.
  public func prefetch(_ range: Range<Int>) throws(FaultRuntimeError) {
    guard range.lowerBound >= 0, range.upperBound <= byteCount else { throw .rangeOutOfBounds(core, range) }
    guard !isClosed else { throw .regionClosed(core) }
    guard core.isInOwnerProcess else { throw .forkedChild() }
    guard !range.isEmpty else { return }
    let start = core.pageSize.roundDown(range.lowerBound)
    let end = min(core.pageSize.roundUp(range.upperBound) ?? Int.max, core.range.byteCount)
    guard let failure = try server.prefetch(core, start..<end) else { return }
    if core.isClosing { throw .regionClosed(core) }
    throw .pageFailed(
      PageFailure(
        region: name, offset: core.offset(of: failure.page), byteCount: pageSize, cause: failure.cause))
  }

  /// Makes the whole region resident; as ``prefetch(_:)``.
  public func populate() throws(FaultRuntimeError) {
    try prefetch(0..<byteCount)
  }
}
