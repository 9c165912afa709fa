/// What the program has done to a region's memory behind the runtime's back, as far as the kernel tells: with the event loop
/// (`UFFD_FEATURE_EVENT_REMAP`, `_UNMAP`, `_REMOVE`).
///
/// `mprotect(2)` is not told, and neither is anything of a region that its faulting threads serve (`sigbus`).
public enum RegionEvent: Hashable, Sendable {
  /// `MADV_DONTNEED`, `MADV_FREE` or `MADV_REMOVE`: what was written there is lost, and the provider is asked again.
  case discarded(region: String, range: Range<Int>)

  /// `munmap(2)`, a mapping of something else in its place, or `mremap(2)` that made it smaller. What is there now is not the
  /// region's any more, and ``LazyRegion/close()`` leaves it alone.
  case unmapped(region: String, range: Range<Int>)

  /// `mremap(2)`. Pages that had come are at the new address; the others fail there, because a region is served where it was
  /// mapped only. They never read as zero.
  case moved(region: String, range: Range<Int>, to: UInt)
}
