/// The errors that concern a region.
extension FaultRuntimeError {
  static func rangeOutOfBounds(_ region: Region, _ range: Range<Int>) -> Self {
    Self(
      .rangeOutOfBounds,
      """
      offsets \(range.lowerBound)..<\(range.upperBound) are not within region '\(region.name)' of \
      \(region.byteCount) bytes
      """
    )
  }

  static func regionClosed(_ region: Region) -> Self {
    Self(.regionClosed, "region '\(region.name)' was closed")
  }

  static func prefetchFromProvider(_ region: Region) -> Self {
    Self(
      .prefetchFromProvider,
      "a provider asked for a prefetch of region '\(region.name)' on the thread that would do it",
      advice: "prefetch from a thread of the program's own")
  }

  static func pageFailed(_ failure: PageFailure) -> Self {
    Self(.pageFailed, failure.description, failure: failure)
  }

  static func forkedChild() -> Self {
    Self(
      .forkedChild, "the runtime belongs to the process that this one was forked from",
      advice: "make a runtime of its own in the child")
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

  static func cannotMap(_ name: String, _ byteCount: Int, _ errno: KernelErrno) -> Self {
    Self(
      .cannotMap, "cannot map \(byteCount) bytes for region '\(name)'", errno: errno,
      advice: errno == .noMemory
        ? "the address space is used up, or RLIMIT_AS, vm.max_map_count or vm.overcommit_memory=2 forbids it" : nil)
  }

  static func cannotRegister(_ region: Region, _ errno: KernelErrno) -> Self {
    Self(
      .cannotRegister, "cannot register \(region.byteCount) bytes of region '\(region.name)' with userfaultfd",
      errno: errno, advice: errno == .noMemory ? "vm.max_map_count is reached; map fewer, larger regions" : nil)
  }
}
