/// The errors that concern a region. Calls that do not hold signals all the time make their errors while signals are
/// held, because the texts are allocated.
extension FaultRuntimeError {
  static func rangeOutOfBounds(_ region: Region, _ range: Range<Int>) -> Self {
    holdingSignals {
      Self(
        .rangeOutOfBounds,
        """
        offsets \(range.lowerBound)..<\(range.upperBound) are not within region '\(region.name)' of \
        \(region.byteCount) bytes
        """
      )
    }
  }

  static func regionClosed(_ region: Region) -> Self {
    holdingSignals { Self(.regionClosed, "region '\(region.name)' was closed") }
  }

  static func prefetchFromProvider(_ region: Region) -> Self {
    holdingSignals {
      Self(
        .prefetchFromProvider,
        "a provider asked for a prefetch of region '\(region.name)' on the thread that would do it",
        advice: "prefetch from a thread of the program's own")
    }
  }

  /// - Parameters:
  ///   - cause: why the page could not be produced.
  ///   - page: the address of the page.
  static func pageFailed(_ region: Region, _ cause: @autoclosure () -> any Error, atPage page: UInt) -> Self {
    holdingSignals { pageFailed(region.failure(cause(), atPage: page)) }
  }

  /// A page that the program has unmapped, or has moved to another address.
  static func pageLost(_ region: Region, _ offset: Int) -> Self {
    holdingSignals {
      pageFailed(
        PageFailure(
          region: region.name, offset: offset, byteCount: region.pageSize.bytes, provider: region.providerName,
          cause: ResolutionError.refused(.noSuchFileOrDirectory)))
    }
  }

  private static func pageFailed(_ failure: PageFailure) -> Self {
    Self(.pageFailed, failure.description, failure: failure)
  }

  static func forkedChild() -> Self {
    holdingSignals {
      Self(
        .forkedChild, "the runtime belongs to the process that this one was forked from",
        advice: "make a runtime of its own in the child")
    }
  }

  static func emptyRegion(name: String, byteCount: Int) -> Self {
    Self(
      .emptyRegion, "region '\(name)' would have \(byteCount) bytes",
      advice: "a region has at least one byte; treat empty sources before mapping them")
  }

  static func requestTooLarge(name: String, byteCount: Int) -> Self {
    Self(
      .requestTooLarge, "the provider of region '\(name)' wants requests of \(byteCount) bytes",
      advice: "a request has at most \(Region.largestRequestLimit) bytes")
  }

  /// - Parameter shortage: the limit that is the cause; nil if it has to be looked up.
  static func cannotMap(
    _ name: String, _ byteCount: Int, _ errno: KernelErrno, _ shortage: MemoryShortage? = nil
  ) -> Self {
    holdingSignals {
      let cause = shortage ?? MemoryFacts.ofThisProcess().shortage(mapping: byteCount, errno)
      return Self(
        .cannotMap, "cannot map \(byteCount) bytes for region '\(name)'", errno: errno,
        advice: cause.map { "\($0)" })
    }
  }

  static func cannotRegister(_ region: Region, _ errno: KernelErrno) -> Self {
    // Registering needs no address space. It may divide a mapping, as the only thing that a limit can forbid.
    let cause = MemoryFacts.ofThisProcess().shortage(mapping: 0, errno)
    return Self(
      .cannotRegister, "cannot register \(region.byteCount) bytes of region '\(region.name)' with userfaultfd",
      errno: errno, advice: cause.map { "\($0)" })
  }
}
