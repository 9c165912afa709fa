internal import CUFFD

extension LazyRegion {
  /// Makes the pages that hold `range` resident, without a fault for each of them, and returns when they are.
  ///
  /// ```swift
  /// try region.prefetch(0..<(64 << 20))  // the first 64 MiB
  /// ```
  ///
  /// The provider is asked for the missing pages in requests of up to its largest size. Pages that are resident
  /// already keep their bytes. Whole huge pages of a writable region are assembled outside of the region and moved in
  /// (`UFFDIO_MOVE`), where the kernel can do that.
  ///
  /// With the event loop, the region's handler thread does the work. Where the provider may block, or the region has
  /// a timeout or a retry policy, the pool does it instead. Either works in steps, and faults go before these steps.
  /// A fault on a page that is on its way waits for that page. With `sigbus` and `sigsegv`, the calling thread does
  /// the work, except that the pool does it with `sigsegv` where the provider has to be asked by one thread at a
  /// time. A page that another thread touches while the calling thread works may be requested twice.
  ///
  /// Two threads share a range of 16 MiB or more where the program may use more than one CPU and the provider permits
  /// ``ProviderPermissions/concurrentRequests``. The calling thread then helps the handler thread; or, where the
  /// calling thread does the work, a thread is started for the time of the call. The pool does not share a prefetch
  /// between threads.
  ///
  /// The method blocks as long as the provider takes, though no longer than the region's timeout for each request,
  /// which counts from the call or from the request before. It takes locks. It may be called from any thread of the
  /// program's own, but not in a signal handler. From a provider or a hook, it is an error on a thread of the runtime
  /// that would have to do the work. Inside a call of the region's own provider it is an error on every thread.
  ///
  /// - Parameter range: offsets in bytes, within `0..<byteCount`. An empty range does nothing.
  /// - Throws: ``FaultRuntimeError`` with the code
  ///   - `rangeOutOfBounds` where the range is not within the region;
  ///   - `regionClosed` where the region was closed before the call or during it;
  ///   - `forkedChild` in a forked child;
  ///   - `prefetchFromProvider` inside a call of the region's own provider, on the region's handler thread, and on a
  ///     thread of the pool where the pool would do the work;
  ///   - `pageFailed` where a page cannot be produced, or the program has unmapped or moved a part of the range;
  ///     ``FaultRuntimeError/failure`` says which page and why. Pages before that one are resident. The page itself
  ///     is not poisoned, and is requested again when it is touched.
  public func prefetch(_ range: Range<Int>) throws(FaultRuntimeError) {
    guard let pages = try pages(of: range) else { return }
    try fill(pages)
  }

  /// Returns the pages that hold a range, as offsets; nil where the range is empty.
  func pages(of range: Range<Int>) throws(FaultRuntimeError) -> Range<Int>? {
    guard range.lowerBound >= 0, range.upperBound <= byteCount else { throw .rangeOutOfBounds(core, range) }
    guard !isClosed else { throw .regionClosed(core) }
    guard core.isInOwnerProcess else { throw .forkedChild() }
    guard !range.isEmpty else { return nil }
    let end = min(core.pageSize.roundUp(range.upperBound) ?? Int.max, core.range.byteCount)
    return core.pageSize.roundDown(range.lowerBound)..<end
  }

  /// Fills pages, given as offsets. Throws at the first page that cannot be filled.
  func fill(_ pages: Range<Int>) throws(FaultRuntimeError) {
    // The provider would be asked from inside its own call, and might do the same again, without end.
    guard !core.isAskedByCaller else { throw .prefetchFromProvider(core) }
    // The program may have put other memory in the place of pages that it has moved or unmapped.
    let end = core.firstLostPage(of: pages) ?? pages.upperBound
    let own = pages.lowerBound..<end
    if !own.isEmpty {
      try withoutCancellation { () throws(FaultRuntimeError) in
        // A failure is made into an error, and freed, while signals are held.
        try holdingSignals { signals throws(FaultRuntimeError) in
          var failure: BulkFiller.Failure?
          try signals.pause { () throws(FaultRuntimeError) in failure = try server.prefetch(core, own) }
          guard let failure else { return }
          if core.isClosing { throw .regionClosed(core) }
          throw .pageFailed(core, failure.cause, atPage: failure.page)
        }
      }
    }
    if end < pages.upperBound { throw .pageLost(core, end) }
  }

  /// Makes the whole region resident. Otherwise it does the same as ``prefetch(_:)``, and may be called from the same
  /// threads.
  ///
  /// - Throws: ``FaultRuntimeError`` with the code `regionClosed`, `forkedChild`, `prefetchFromProvider` or
  ///   `pageFailed`, for the reasons that ``prefetch(_:)`` names.
  public func populate() throws(FaultRuntimeError) {
    try prefetch(0..<byteCount)
  }
}
