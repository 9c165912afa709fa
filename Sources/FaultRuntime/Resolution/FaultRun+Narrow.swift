/// An error that ends the resolution of a run as a whole. It says nothing about single pages.
protocol EndOfResolution: Error {}

extension FaultRun {
  /// Finds out which pages an error of this run concerns. An error of a request that spans pages says little about
  /// each of them, so each page is requested by itself, and as often again as the region's retry policy says.
  ///
  /// - Parameters:
  ///   - error: the error of the request for the whole run.
  ///   - pages: what identifies each page that matters, for example its address.
  ///   - context: what `ask` and `giveUp` work with.
  ///   - isOver: whether the region is closing, or another thread has given up the request in the meantime.
  ///   - ask: requests one page, and puts it in place.
  ///   - giveUp: fails one page for good, with the latest error.
  /// - Throws: an ``EndOfResolution`` that `ask` throws, and what `giveUp` throws.
  static func narrow<Context: ~Copyable, Page>(
    _ error: any Error, of run: borrowing FaultRun, to pages: some Sequence<Page>, with context: inout Context,
    until isOver: () -> Bool, ask: (inout Context, Page) throws -> Void,
    giveUp: (inout Context, Page, any Error) throws -> Void
  ) throws {
    let asksForEach = !run.isOnePage && !run.region.isClosing
    if !run.isOnePage { run.shrinkNext(at: run.start + run.region.requestUnit) }
    for page in pages {
      var latest = error
      var attempts = RetryAttempts(run.region.retry)
      var isThere = false
      var asks = asksForEach || attempts.mayGoOn(after: latest, until: isOver)
      while asks, !isThere {
        do {
          try ask(&context, page)
          isThere = true
        } catch let end as any EndOfResolution {
          throw end
        } catch let again {
          latest = again
          asks = attempts.mayGoOn(after: latest, until: isOver)
        }
      }
      if !isThere { try giveUp(&context, page, latest) }
    }
  }
}
