internal import CUFFD

/// An address space that has lazy regions, whichever runtime and delivery serves them.
///
/// Runtimes have to know the regions of one another: a new region must not land in a hole that the program has made in
/// another one, and a signal does not say whose memory its address is.
///
/// A forked child inherits none of the memory of regions. At the places of the regions it gets memory without access,
/// so that nothing else is mapped there: a pointer into a region must not show the child its own memory.
final class AddressSpace: Sendable {
  /// The address space of this process.
  static let ofThisProcess = AddressSpace()

  let regions = RegionTable<Region>()

  /// The number of mappings that all regions with the delivery `sigsegv` may use together. The kernel limits the
  /// mappings of an address space.
  let mappings = MappingBudget()

  private init() { prepareForFork() }

  /// Maps anonymous memory that belongs to no region, as
  /// ``AddressRange/reservedForRegion(byteCount:alignment:isWritable:isTaken:)`` does.
  func reserve(
    byteCount: Int, alignment: Int, isWritable: Bool
  ) throws(HostCallError) -> AddressRange {
    try AddressRange.reservedForRegion(
      byteCount: byteCount, alignment: alignment, isWritable: isWritable, isTaken: { regions.intersects($0) })
  }

  // MARK: Fork

  /// Has `fork(3)` wait for the locks that all runtimes of the process share, because in the child no thread would
  /// ever release them. What happens in the child is written in C: the runtime of Swift has locks as well, and another
  /// thread of the parent may have held one of them.
  private func prepareForFork() {
    regions.prepareForFork()
    mappings.prepareForFork()
    SoleAsker.prepareForFork()
    ProviderName.prepareForFork()
  }
}
