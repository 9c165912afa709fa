@testable import FaultRuntime

extension Region {
  /// Creates a region over anonymous memory that no delivery knows, for tests of single parts.
  convenience init(
    testing provider: some PageProvider, byteCount: Int, options: RegionOptions = RegionOptions(),
    userfaultfd: SharedUserfaultfd? = nil
  ) throws {
    let owner = try userfaultfd ?? SharedUserfaultfd(Userfaultfd.open(DescriptorKind.allCases, wanting: []))
    try self.init(
      provider: provider, byteCount: byteCount, options: options, name: "test", pageSize: .ofHost(),
      server: ObjectIdentifier(owner)
    ) { mapped throws(HostCallError) in
      let range = try AddressRange.reservedForRegion(
        byteCount: mapped, alignment: 0, isWritable: options.access == .readWrite, isTaken: { _ in false })
      return AnonymousMemory(
        range, isWritable: options.access == .readWrite, pageSize: .ofHost(), userfaultfd: owner)
    }
  }
}

extension LazyRegion {
  /// The handler that serves this region; nil for another delivery.
  var eventLoop: EventLoop? { server as? EventLoop }
  /// The memory of a region that is served by `sigsegv`; nil for another delivery.
  var twin: TwinMemory? { core.memory as? TwinMemory }
}
