extension AnonymousMemory {
  /// Returns the memory of a region that a userfaultfd serves.
  @inline(__always)
  static func of(_ region: Region) -> AnonymousMemory {
    // The cast is safe: a delivery with a userfaultfd makes the memory of all its regions, and makes anonymous
    // memory.
    unsafe unsafeDowncast(region.memory, to: AnonymousMemory.self)
  }
}
